"""The tools that are measured: each does the same work, over the network too, and without a transaction where told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import tool
from bench.history import Migration, tables
from bench.peers import FLOOR, PEERS, TOOLS, node
from bench.peers.drizzle import Drizzle
from bench.peers.peer import Peer
from tests.proxy import tcp_proxy
from tests.servers import Database, Postgres

INDEX = Migration(3, "CREATE INDEX CONCURRENTLY i_1 ON t_1 (v)", in_transaction=False)
HISTORY = [*tables(2), INDEX]


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each that is installed."""
    found: Peer = request.param
    if why := found.missing():
        pytest.skip(f"{found.name}: {why}")
    return found


@pytest.fixture
def far(postgres: Postgres) -> Iterator[Database]:
    """A fresh database that is reached over TCP, with a password."""
    with (
        postgres.role() as (name, password),
        postgres.database() as database,
        tcp_proxy(database) as proxy,
    ):
        database.execute(f'ALTER DATABASE "{database.address.database}" OWNER TO {name}')
        yield proxy.database.as_role(name, password)


def relations(database: Database) -> set[str]:
    return {name for (name,) in database.execute("SELECT relname FROM pg_class WHERE relname ~ '^[ti]_[0-9]$'")}


def test_every_tool_does_the_same_work(peer: Peer, far: Database, tmp_path: Path) -> None:
    history = HISTORY[:2] if isinstance(peer, Drizzle) else HISTORY
    command = peer.upgrade(tool.write(peer, tmp_path, history), far)
    command.run()
    assert relations(far) == ({"t_1", "t_2"} if isinstance(peer, Drizzle) else {"t_1", "t_2", "i_1"})
    if peer is FLOOR:
        with pytest.raises(AssertionError, match='relation "history" already exists'):
            command.run()
    else:
        command.run()
    assert peer.version().split()[0][0].isdigit()


def test_a_tool_with_one_transaction_for_all_cannot_do_without(database: Database, tmp_path: Path) -> None:
    drizzle = Drizzle()
    if why := drizzle.missing():
        pytest.skip(f"{drizzle.name}: {why}")
    with pytest.raises(AssertionError, match="cannot run inside a transaction block"):
        drizzle.upgrade(tool.write(drizzle, tmp_path, HISTORY), database).run()
    assert relations(database) == set()


def test_without_node_and_psql_their_tools_say_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool.installed(PEERS) == [peer for peer in TOOLS if peer.is_python]
    missing = tool.missing(PEERS)
    assert missing["dbmate"] == "Node.js is not installed"
    assert "psql is not installed" in missing[FLOOR.name]


def test_what_npm_has_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "node").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "PACKAGES", tmp_path / "node_modules")
    assert set(tool.missing(TOOLS).values()) == {"not installed (npm ci --prefix bench/peers)"}


def test_a_tool_that_does_less_is_not_measured(database: Database) -> None:
    assert tool.filling(database, lambda: 1.5, tables=0)() == 1.5
    with pytest.raises(AssertionError, match="0 tables of 1"):
        tool.filling(database, lambda: 1.5, tables=1)()
