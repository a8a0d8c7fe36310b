"""Nothing pending, which is what most calls find: the answer of a warm service, and every tool's command."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import deployment, ours, ranking, tool
from bench.history import tables
from bench.peers import FLOOR, TOOLS
from bench.peers.peer import Peer
from bench.section import Goal, Section
from bench.side_by_side import in_turn, median_s
from tests.servers import Postgres

_EXPLANATION = (
    "POST /migrate in a process that has migrated before, with histories of several sizes of which every revision is "
    "applied, {calls} times in turn; and beside the tools' commands, from start to exit, {times} times in turn, with "
    "{compared} revisions. Medians; in brackets the fastest and the slowest. {noise}"
)
_AT_MOST = {"Alembic, asyncpg": 1 / 50, "Alembic, psycopg": 1 / 50, "dbmate": 1 / 2}
_MOST_GROWTH = 1.3


def measure(
    postgres: Postgres,
    folder: Path,
    *,
    peers: Sequence[Peer] = TOOLS,
    sizes: tuple[int, ...] = (10, 100, 1000, 5000),
    compared: int = 100,
    calls: int = 40,
    times: int = 7,
) -> Section:
    """Measure histories of several sizes beside each other, and one of them beside the tools."""
    with ExitStack() as stack:
        callers = {}
        for size in sizes:
            script_location = deployment.write(folder / f"ours-{size}", tables(size))
            database = stack.enter_context(postgres.database())
            client = stack.enter_context(ours.warm(database, folder, script_location))
            ours.migrate(client, applies=size)
            callers[size] = ours.migrating(client, applies=0)
        by_size = in_turn({f"{size:,} revisions": caller for size, caller in callers.items()}, times=calls)

        commands = {}
        for peer in tool.installed(peers):
            database = stack.enter_context(postgres.database())
            command = peer.upgrade(tool.write(peer, folder, tables(compared)), database)
            command.run()
            commands[peer.name] = tool.running(command)
        by_tool = in_turn({ours.NAME: callers[compared], **commands}, times=times)

    smallest, *_, largest = by_size
    growth = median_s(by_size[largest]) / median_s(by_size[smallest])
    return Section(
        name="nothing_pending",
        title="Nothing pending, warm",
        explanation=_EXPLANATION.format(
            calls=calls, times=times, compared=compared, noise=ranking.noise(by_size, by_tool)
        ),
        table=f"{_growth_table(by_size)}\n{ranking.table(by_tool, ours.NAME, _AT_MOST)}",
        goals=[
            Goal(f"nothing pending, warm, {largest} beside {smallest}", growth, _MOST_GROWTH),
            *ranking.goals("nothing pending, warm", by_tool, ours.NAME, _AT_MOST),
        ],
        skipped={FLOOR.name: "does not know what was applied"} | tool.missing(peers),
        seconds={"nothing pending, warm": ranking.seconds(by_tool)},
    )


def _growth_table(by_size: ranking.Times) -> str:
    smallest, *_ = by_size.values()
    rows = [
        f"| {size} | {ranking.spread(took)} | {median_s(took) / median_s(smallest):.2f} |\n"
        for size, took in by_size.items()
    ]
    return "| POST /migrate | takes | times the first |\n|---|---|---|\n" + "".join(rows)
