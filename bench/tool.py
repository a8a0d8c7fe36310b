"""What the parts do with every tool: write its history, time its command, make its database anew."""

import time
from collections.abc import Iterable
from pathlib import Path

from bench.history import Migration
from bench.peers.peer import Command, Peer
from bench.side_by_side import Measure
from tests.servers import Database


def installed(peers: Iterable[Peer]) -> list[Peer]:
    """Those that can be measured here."""
    return [peer for peer in peers if peer.missing() is None]


def missing(peers: Iterable[Peer]) -> dict[str, str]:
    """Why the others cannot, by their names."""
    return {peer.name: why for peer in peers if (why := peer.missing()) is not None}


def write(peer: Peer, folder: Path, history: list[Migration]) -> Path:
    """Write the history in the tool's form; the new folder within that one."""
    own = folder / "".join(filter(str.isalnum, peer.name))
    own.mkdir(parents=True)
    peer.write(own, history)
    return own


def running(command: Command) -> Measure:
    """The command, from its start to its exit."""

    def measure() -> float:
        began = time.perf_counter()
        command.run()
        return time.perf_counter() - began

    return measure


def filling(database: Database, upgrade: Measure, *, tables: int) -> Measure:
    """The same with a database that is made anew before, and has the tables of the history after."""

    def measure() -> float:
        name = database.address.database
        database.server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        database.server.execute(f'CREATE DATABASE "{name}"')
        took = upgrade()
        # Who does less would be faster.
        made = database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename ~ '^t_[0-9]+$'")
        assert made == tables, f"{made} tables of {tables}"
        return took

    return measure
