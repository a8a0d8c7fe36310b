"""Nothing pending, cold: from the start of a process to the answer, beside every tool that Python has to start."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import cold_start, deployment, ours, ranking, tool
from bench.history import tables
from bench.peers import TOOLS
from bench.peers.alembic_cli import AlembicCli
from bench.peers.peer import Peer
from bench.section import Section
from bench.side_by_side import Measure, in_turn
from tests import servers
from tests.servers import PROJECT, Postgres

_OF_PYTHON = [peer for peer in TOOLS if peer.is_python]
_EXPLANATION = (
    "From the start of a process under Vercel's shim to its answer to POST /migrate, beside the commands of the tools "
    "that are written in Python, from start to exit; all {revisions} revisions are applied. Medians of {times} times "
    "in turn; in brackets the fastest and the slowest. {noise}"
)


def measure(
    postgres: Postgres, folder: Path, *, peers: Sequence[Peer] = _OF_PYTHON, revisions: int = 100, times: int = 7
) -> Section:
    """Measure a function's first answer, `alembic current`, and what upgrades in every tool of Python's."""
    history = tables(revisions)
    with ExitStack() as stack:
        database = stack.enter_context(postgres.database())
        script_location = deployment.write(folder / "ours", history)
        environment = servers.environment(database, script_location=script_location)
        first_answer = cold_start.first_answer(environment, PROJECT, "api/index.py", "POST", "/migrate")
        first_answer()
        ways: dict[str, Measure] = {ours.NAME: first_answer}
        for peer in tool.installed(peers):
            database = stack.enter_context(postgres.database())
            own = tool.write(peer, folder, history)
            command = peer.upgrade(own, database)
            command.run()
            ways[peer.name] = tool.running(command)
            if isinstance(peer, AlembicCli):
                ways[f"{peer.name}: `alembic current`"] = tool.running(peer.current(own, database))
        took = in_turn(ways, times=times)
    at_most = {name: 1.0 for name in ways if name != ours.NAME}
    return Section(
        name="cold",
        title="Nothing pending, cold",
        explanation=_EXPLANATION.format(revisions=revisions, times=times, noise=ranking.noise(took)),
        table=ranking.table(took, ours.NAME, at_most),
        goals=ranking.goals("nothing pending, cold", took, ours.NAME, at_most),
        skipped=tool.missing(peers),
        seconds={"nothing pending, cold": ranking.seconds(took)},
    )
