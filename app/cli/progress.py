"""How a run shows while it goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from app import log
from app.cli.answers import show
from app.report import Emit, Event


@contextmanager
def progress(*, quiet: bool) -> Iterator[Emit]:
    """Where a run's events go: on a terminal to a line per revision, elsewhere to the log."""
    if quiet or not sys.stderr.isatty():
        log.to_stderr_if_nobody_listens()
        yield log.emit
        return
    try:
        from rich.console import Console  # in the dependency group `terminal`, which a deployment does without
    except ImportError:
        yield _plain_line
        return
    console = Console(stderr=True, highlight=False)
    with console.status("looking at the database") as spinner:

        def show(event: Event) -> None:
            if event.name == "revision.started":
                spinner.update(f"{event.fields['progress']}  {event.fields['revision']}  {event.fields['message']}")
            elif line := _line(event):
                console.print(line, markup=False)

        yield show


def _plain_line(event: Event) -> None:
    if line := _line(event):
        show(line, to_stderr=True)


def _line(event: Event) -> str | None:
    if event.name == "warning":
        return f"warning: {event.fields['message']}"
    if event.name != "revision.applied":
        return None
    return f"{event.fields['revision']}  {event.fields['message']}  {event.fields['duration_ms']} ms"
