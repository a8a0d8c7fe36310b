"""Revisions applied to an empty database, by every tool."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import deployment, ours, ranking, tool
from bench.history import tables
from bench.peers import FLOOR, PEERS
from bench.peers.peer import Peer
from bench.section import Section
from bench.side_by_side import Measure, in_turn
from tests.servers import Postgres

_EXPLANATION = (
    "Revision i creates the table `t_i (id bigint PRIMARY KEY, v text)`; one file each, each in a transaction of its "
    "own with its row of history, unless a tool's name says otherwise. Every time begins with an empty database, and "
    "ends with all tables in it. The tools run as commands, from start to exit; this project answers POST /migrate in "
    "a process that has answered GET /status before, as the warm instance of a function has. Its lock, fence and "
    "record are in its time. psql is the floor: it runs the same statements from one file, and knows no order, no lock "
    "and nothing of what was applied before. Medians of {times} times in turn; in brackets the fastest and the "
    "slowest. {noise}"
)


def measure(
    postgres: Postgres,
    folder: Path,
    *,
    peers: Sequence[Peer] = PEERS,
    sizes: tuple[int, ...] = (100, 1000),
    times: int = 7,
) -> Section:
    """Measure all that are installed, with histories of several sizes."""
    measured = {}
    for size in sizes:
        own = folder / f"{size}-revisions"
        with _ways(postgres, own, peers, size) as ways:
            measured[size] = in_turn(ways, times=times)
    at_most = {peer.name: 1.0 for peer in peers if peer is not FLOOR}
    return Section(
        name="apply",
        title="Revisions applied to an empty database",
        explanation=_EXPLANATION.format(times=times, noise=ranking.noise(*measured.values())),
        table="\n".join(
            f"{_what(size)}:\n\n{ranking.table(took, ours.NAME, at_most)}" for size, took in measured.items()
        ),
        goals=[
            goal for size, took in measured.items() for goal in ranking.goals(_what(size), took, ours.NAME, at_most)
        ],
        skipped=tool.missing(peers),
        seconds={_what(size): ranking.seconds(took) for size, took in measured.items()},
    )


def _what(size: int) -> str:
    return f"{size:,} revisions from empty"


@contextmanager
def _ways(postgres: Postgres, folder: Path, peers: Sequence[Peer], size: int) -> Iterator[dict[str, Measure]]:
    """From an empty database to all revisions, in each tool's way."""
    history = tables(size)
    with ExitStack() as stack:
        database = stack.enter_context(postgres.database())
        script_location = deployment.write(folder / "ours", history)
        client = stack.enter_context(ours.warm(database, folder, script_location))
        ways = {ours.NAME: tool.filling(database, ours.migrating(client, applies=size), tables=size)}
        for peer in tool.installed(peers):
            database = stack.enter_context(postgres.database())
            command = peer.upgrade(tool.write(peer, folder, history), database)
            ways[peer.name] = tool.filling(database, tool.running(command), tables=size)
        yield ways
