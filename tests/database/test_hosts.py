"""The hosts of a connection string: none can keep a caller waiting, and of several the right one is found."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.database import cures
from app.errors import DatabaseUnavailable, ReadOnlyDatabase
from tests.database.attempts import LONG_S, answers, hot_standby, refusal, soon
from tests.proxy import Proxy, tcp_proxy
from tests.restartable import Restartable, restartable
from tests.servers import Database
from tests.tls import certify, front


@pytest.fixture(scope="module")
def own() -> Iterator[Restartable]:
    """A server that nobody else uses."""
    with restartable() as server:
        yield server


# --- what keeps silent


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "verify-full"])
async def test_a_server_that_accepts_and_says_nothing_has_a_timeout(proxy: Proxy, sslmode: str) -> None:
    proxy.swallow()
    text = proxy.database.url.replace("sslmode=disable", f"sslmode={sslmode}")
    problem = await timely(refusal(text, connect_timeout=0.3))
    assert problem.detail.endswith("did not answer within 0.3 s.")  # and was not asked again
    assert problem.hint == cures.SILENT


async def test_a_server_that_says_nothing_after_tls_has_a_timeout(database: Database, tmp_path: Path) -> None:
    certificates = certify(tmp_path)
    async with front(database, certificates, silent=True) as opened:
        text = f"postgresql://somebody@localhost:{opened.port}/x?sslmode=verify-full"
        problem = await timely(refusal(text, connect_timeout=0.5, ssl_root_cert=str(certificates.root)))
    assert problem.detail.endswith("did not answer within 0.5 s.")


async def test_a_server_that_says_nothing_in_the_middle_of_tls_has_a_timeout() -> None:
    async def promise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"S")  # PostgreSQL's yes to an SSLRequest, after which nothing follows
        with contextlib.suppress(OSError):
            await reader.read()
            await reader.read()
        writer.close()

    async with await asyncio.start_server(promise, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        problem = await timely(refusal(f"postgresql://x@127.0.0.1:{port}/x?sslmode=require", connect_timeout=0.3))
    assert problem.detail.endswith("did not answer within 0.3 s.")


async def timely(waiting: Coroutine[Any, Any, DatabaseUnavailable]) -> DatabaseUnavailable:
    """What comes before the patience of the test is at its end."""
    return await asyncio.wait_for(waiting, LONG_S)


# --- several hosts


def listed(*places: Proxy, query: str = "") -> str:
    """One connection string for several proxies of one database, in this order."""
    address = places[0].database.address
    role = f"{address.username}:{address.password}@" if address.password else f"{address.username}@"
    hosts = ",".join(f"127.0.0.1:{each.database.address.port}" for each in places)
    return f"postgresql://{role}{hosts}/{address.database}?sslmode=disable{query}"


async def test_a_silent_host_costs_one_timeout_and_not_the_connection(proxy: Proxy, database: Database) -> None:
    proxy.swallow()
    with tcp_proxy(database) as second:
        assert await answers(listed(proxy, second), connect_timeout=0.5)
        second.swallow()
        problem = await refusal(listed(proxy, second), connect_timeout=0.2)
        assert problem.detail.endswith("did not answer within 0.2 s.")
        assert problem.detail.count("127.0.0.1:") == 2
        # Silence is not worth another attempt, a refusal is.
        second.swallow(False)
        second.refuse()
        with soon(second.accept):
            assert await answers(listed(proxy, second), connect_timeout=0.1)


async def test_of_several_hosts_the_one_that_takes_writes_is_found(own: Restartable) -> None:
    with own.database() as database, tcp_proxy(database) as first, tcp_proxy(database) as second:
        with hot_standby(own):
            problem = await refusal(listed(first, second))
            assert isinstance(problem, ReadOnlyDatabase)
            assert problem.detail.endswith("takes writes.")
            # Why the primary cannot be reached says more than that the standby is none, and may pass.
            second.refuse()
            problem = await refusal(listed(first, second))
            assert problem.detail.endswith("Connection refused. Tried 3 times.")
            for session in ("any", "standby"):
                assert await answers(listed(first, second, query=f"&target_session_attrs={session}"))
        assert await answers(listed(second, first))
        problem = await refusal(listed(first, query="&target_session_attrs=standby"))
        assert "target_session_attrs=standby" in problem.detail
        assert not problem.retryable


async def test_an_sslmode_is_ignored_on_a_unix_socket_as_libpq_does(own: Restartable) -> None:
    folder, port = own.folder, own.url.port
    for sslmode in ("require", "verify-full"):
        assert await answers(f"postgresql://postgres@/postgres?host={folder}&port={port}&sslmode={sslmode}")
