"""The same from afar: each message to the database, and each answer, takes some milliseconds."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import deployment, ours, ranking, tool
from bench.history import tables
from bench.peers import FLOOR, PEERS
from bench.peers.peer import Peer
from bench.section import Section
from bench.side_by_side import Measure, in_turn
from tests.proxy import tcp_proxy
from tests.servers import Database, Postgres

_EXPLANATION = (
    "Between function and database, {ms:g} ms each way, added by a proxy; {pending} revisions from empty, then nothing "
    "pending. Otherwise as in apply.md. Medians of {times} times in turn; in brackets the fastest and the slowest. "
    "{noise}"
)
_AT_MOST = {"Alembic, asyncpg": 1.0, "Alembic, psycopg": 1.0}


def measure(
    postgres: Postgres,
    folder: Path,
    *,
    peers: Sequence[Peer] = PEERS,
    pending: int = 20,
    latency_s: float = 0.005,
    times: int = 7,
) -> Section:
    """Measure all that are installed, through one proxy."""
    history = tables(pending)
    with ExitStack() as stack:
        database = stack.enter_context(postgres.database())
        proxy = stack.enter_context(tcp_proxy(database))
        proxy.latency_s = latency_s

        def afar(near: Database) -> Database:
            return Database(postgres, proxy.database.address.set(database=near.address.database))

        script_location = deployment.write(folder / "ours", history)
        client = stack.enter_context(ours.warm(afar(database), folder, script_location))
        filling: dict[str, Measure] = {
            ours.NAME: tool.filling(database, ours.migrating(client, applies=pending), tables=pending)
        }
        filled: dict[str, Measure] = {ours.NAME: ours.migrating(client, applies=0)}
        for peer in tool.installed(peers):
            database = stack.enter_context(postgres.database())
            command = tool.running(peer.upgrade(tool.write(peer, folder, history), afar(database)))
            filling[peer.name] = tool.filling(database, command, tables=pending)
            if peer is not FLOOR:
                filled[peer.name] = command
        away = f"{latency_s * 1000:g} ms away"
        measured = {
            f"{pending} revisions from empty, {away}": in_turn(filling, times=times),
            f"nothing pending, {away}": in_turn(filled, times=times),
        }
    return Section(
        name="latency",
        title="With latency between function and database",
        explanation=_EXPLANATION.format(
            ms=latency_s * 1000, pending=pending, times=times, noise=ranking.noise(*measured.values())
        ),
        table="\n".join(f"{what}:\n\n{ranking.table(took, ours.NAME, _AT_MOST)}" for what, took in measured.items()),
        goals=[goal for what, took in measured.items() for goal in ranking.goals(what, took, ours.NAME, _AT_MOST)],
        skipped={FLOOR.name: "does not know what was applied, so from empty only"} | tool.missing(peers),
        seconds={what: ranking.seconds(took) for what, took in measured.items()},
    )
