"""README's troubleshooting table: each row is produced here, by a real fault, and its cure is the answer's hint."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.database import lock, unreachable
from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of
from tests.database.attempts import hot_standby, said
from tests.proxy import Proxy
from tests.restartable import Restartable, restartable
from tests.servers import APPLY, READ, Database, Postgres
from tests.tls import Certificates, certify, front
from tests.web.answers import problem

CREATE_A = "op.execute('CREATE TABLE a (id int)')"
PASSWORD = "hunter2-hunter2"


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    slug: str
    words: tuple[str, ...]
    """Of which one stands in the problem's detail."""
    cure: str


def table() -> dict[str, Row]:
    """The rows, by the first words that one sees."""
    section = (servers.PROJECT / "README.md").read_text().partition("\n### Troubleshooting\n")[2].partition("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = {}
    for line in lines:
        seen, _why, cure = (cell.strip() for cell in line.strip("|").split("|"))
        slug, *words = re.findall(r"`([^`]+)`", seen)
        rows[words[0]] = Row(slug, tuple(words), cure)
    assert len(rows) == len(lines)
    return rows


TABLE = table()
PRODUCED: list[str] = []


def produces(words: str) -> pytest.MarkDecorator:
    """Mark the test that produces the row with these words; it gets the `row`."""
    PRODUCED.append(words)
    return pytest.mark.parametrize("row", [TABLE.get(words)], ids=[words])


def test_every_row_is_produced_by_one_test() -> None:
    assert sorted(PRODUCED) == sorted(TABLE)
    assert len(TABLE) >= 10


def assert_is(row: Row, answer: httpx.Response) -> dict[str, Any]:
    """See that the answer is the row's problem, and its hint the row's cure, word for word."""
    document = problem(answer, row.slug, 409 if row.slug == "lock-held" else 503)
    assert any(words.lower() in document["detail"].lower() for words in row.words), document
    assert document["hint"] == row.cure
    assert PASSWORD not in answer.text
    return document


async def migrate(configuration: Any) -> httpx.Response:
    async with client_of(configuration) as client:
        return await client.post("/migrate", json={"lock_wait_s": 0}, headers=APPLY)


async def status(configuration: Any) -> httpx.Response:
    async with client_of(configuration) as client:
        return await client.get("/status", headers=READ)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certify(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def own() -> Iterator[Restartable]:
    """A server that nobody else uses; it has no TLS."""
    with restartable() as server:
        yield server


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let errors that pass be tried again without a pause: tests/database/test_connecting.py has the pauses."""
    monkeypatch.setattr(unreachable, "_NOT_NOW_S", (0.0,) * 4)
    monkeypatch.setattr(unreachable, "_REFUSED_S", (0.0,) * 2)


# --- TLS


@produces("self-signed certificate in certificate chain")
async def test_a_certificate_of_an_unknown_root(
    row: Row, settings: MakeSettings, database: Database, certificates: Certificates
) -> None:
    async with front(database, certificates) as opened:
        text = f"postgresql://me:{PASSWORD}@localhost:{opened.port}/shop?sslmode=verify-full"
        assert_is(row, await status(settings(database_url=text)))
        assert_is(row, await status(settings(database_url=text, ssl_root_cert=str(certificates.other_root))))
        # What the hint says: the right root, or none and sslmode=require.
        right = database.address.set(host="localhost", port=opened.port, query={"sslmode": "verify-full"})
        cured = settings(database_url=right.render_as_string(False), ssl_root_cert=certificates.root.read_text())
        assert (await status(cured)).status_code == 200
        cured = settings(database_url=right.set(query={"sslmode": "require"}).render_as_string(False))
        assert (await status(cured)).status_code == 200


@produces("certificate is not valid for")
async def test_a_certificate_for_another_name(
    row: Row, settings: MakeSettings, database: Database, certificates: Certificates
) -> None:
    async with front(database, certificates) as opened:
        text = f"postgresql://me:{PASSWORD}@127.0.0.1:{opened.port}/shop?sslmode=verify-full"
        assert_is(row, await status(settings(database_url=text, ssl_root_cert=str(certificates.root))))


@produces("does not speak TLS")
async def test_a_server_without_tls(row: Row, settings: MakeSettings, own: Restartable) -> None:
    # The host is no local one by its name, so that TLS is needed without a word on it.
    text = own.url.set(host="0.0.0.0", password=PASSWORD).render_as_string(False)
    assert_is(row, await status(settings(database_url=text)))
    assert (await status(settings(database_url=text + "?sslmode=disable"))).status_code == 200


@produces("only takes encrypted connections")
async def test_a_server_that_takes_nothing_but_tls(row: Row, settings: MakeSettings, own: Restartable) -> None:
    somebody = Database(own, own.url.set(username="somebody", password=PASSWORD))
    rules = own.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust\n")
    try:
        own.execute("SELECT pg_reload_conf()")
        servers.until(lambda: "no encryption" in said(somebody), what="the server to read its rules")
        assert_is(row, await status(settings(database_url=somebody.url + "?sslmode=disable")))
    finally:
        rules.write_text(before)
        own.execute("SELECT pg_reload_conf()")


# --- the login


@produces("refused the role")
async def test_a_wrong_password(row: Row, settings: MakeSettings, database: Database, postgres: Postgres) -> None:
    with postgres.role() as (name, _):
        document = assert_is(row, await migrate(settings(database_url=database.as_role(name, PASSWORD).url)))
    assert name in document["detail"]


@produces("permission denied")
async def test_a_role_without_a_right(
    row: Row, settings: MakeSettings, database: Database, postgres: Postgres, write_history: WriteHistory
) -> None:
    with postgres.role() as (name, password):
        limited = settings(write_history(a1=CREATE_A), database_url=database.as_role(name, password).url)
        try:
            assert_is(row, await migrate(limited))
            # What the hint says.
            database.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {name}")
            database.execute(f'GRANT CREATE ON DATABASE "{database.address.database}" TO {name}')
            answer = await migrate(limited)
            assert (answer.status_code, answer.json()["warnings"]) == (200, []), answer.text
        finally:
            database.execute(f"DROP OWNED BY {name}")


@produces("There is no database")
async def test_a_database_that_is_missing(row: Row, settings: MakeSettings, database: Database) -> None:
    missing = Database(database.server, database.address.set(database="no_such_database"))
    document = assert_is(row, await migrate(settings(database_url=missing.url)))
    assert "no_such_database" in document["detail"]


# --- the way


@produces("Connection refused")
@pytest.mark.usefixtures("at_once")
async def test_a_port_where_nobody_listens(row: Row, settings: MakeSettings, proxy: Proxy) -> None:
    proxy.refuse()
    document = assert_is(row, await migrate(settings(database_url=proxy.database.url)))
    assert document["retryable"]


@produces("did not answer within")
async def test_a_host_that_keeps_silent(row: Row, settings: MakeSettings, proxy: Proxy) -> None:
    proxy.swallow()
    document = assert_is(row, await migrate(settings(database_url=proxy.database.url, connect_timeout=0.2)))
    assert document["retryable"]


@produces("has only IPv6 addresses")
async def test_a_host_that_has_only_ipv6_addresses(row: Row, settings: MakeSettings) -> None:
    # One for documentation (RFC 3849), which is nowhere: where there is IPv6, nobody answers. And one for multicast,
    # to which there is no way by TCP.
    for address in ("2001:db8::1", "ff02::1"):
        text = f"postgresql://me:{PASSWORD}@[{address}]:5432/shop"
        document = assert_is(row, await migrate(settings(database_url=text, connect_timeout=0.3)))
        assert f"[{address}]:5432" in document["detail"]


@produces("the database system is")
@pytest.mark.usefixtures("at_once")
async def test_a_database_that_is_starting_up(row: Row, settings: MakeSettings, own: Restartable) -> None:
    own.start_without_an_end()
    try:
        document = assert_is(row, await migrate(settings(database_url=own.url.render_as_string(False))))
    finally:
        own.recovered()
    assert document["retryable"]
    assert document["detail"].endswith("Tried 5 times.")


@produces("too many connections")
@pytest.mark.usefixtures("at_once")
async def test_too_many_connections(row: Row, settings: MakeSettings, database: Database, postgres: Postgres) -> None:
    with postgres.role("CONNECTION LIMIT 0") as (name, password):
        limited = settings(database_url=database.as_role(name, password).url)
        assert assert_is(row, await migrate(limited))["retryable"]
        database.execute(f"ALTER ROLE {name} CONNECTION LIMIT 20")
        assert (await status(limited)).status_code == 200


@produces("unsupported startup parameter")
async def test_a_pooler_in_the_way(
    row: Row, settings: MakeSettings, database: Database, through_pgbouncer: Callable[..., Database]
) -> None:
    options = "?options=-c%20search_path%3Dpublic"
    pooled = through_pgbouncer("transaction")
    assert_is(row, await migrate(settings(database_url=pooled.url + options)))
    direct = database.address.update_query_dict({"options": "-c search_path=public"}).render_as_string(False)
    assert (await status(settings(database_url=direct))).status_code == 200


# --- a database that works


@produces("read-only")
async def test_a_database_that_takes_no_writes(
    row: Row, settings: MakeSettings, database: Database, write_history: WriteHistory
) -> None:
    database.execute(f'ALTER DATABASE "{database.address.database}" SET default_transaction_read_only = on')
    assert_is(row, await migrate(settings(write_history(a1=CREATE_A))))


async def test_a_replica_is_a_database_that_takes_no_writes(
    settings: MakeSettings, own: Restartable, write_history: WriteHistory
) -> None:
    with own.database() as database, hot_standby(own):
        configuration = settings(write_history(a1=CREATE_A), database_url=database.url)
        assert_is(TABLE["read-only"], await migrate(configuration))
        # Reading goes on, and says what is the matter.
        answer = await status(configuration)
        assert answer.status_code == 200, answer.text
        assert any("replica" in warning for warning in answer.json()["warnings"])


@produces("holds the lock")
async def test_a_lock_that_is_held(
    row: Row, settings: MakeSettings, database: Database, write_history: WriteHistory
) -> None:
    with database.connect() as somebody:
        somebody.execute(f"SELECT pg_advisory_lock({lock.key('public.alembic_version')})".encode())
        assert_is(row, await migrate(settings(write_history(a1=CREATE_A))))
