"""The way to the database in libpq's words: psycopg2 gets as far as asyncpg does, and no further."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.database import url
from app.database.drivers import libpq
from app.settings import Settings
from tests.database.test_tls import MEANINGS, certificates
from tests.proxy import Proxy
from tests.servers import Database, free_port
from tests.tls import Certificates, front

__all__ = ["certificates"]


def arguments(database_url: str, **changes: Any) -> dict[str, Any]:
    settings = Settings(database_url=database_url, **changes)
    return libpq.arguments(url.database(settings), application_name="a name")


async def travels(
    database: Database, server: Certificates | None, query: str, root: Path | str | None, host: str, *, plain: bool
) -> str:
    async with front(database, server, plain=plain, says_why=True) as opened:
        address = database.address.set(host=host, port=opened.port, query={})
        text = address.render_as_string(hide_password=False) + query

        def asks() -> None:
            connection = psycopg2.connect(**arguments(text, ssl_root_cert=str(root) if root else None))
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.close()

        try:
            await asyncio.to_thread(asks)
        except psycopg2.OperationalError:
            return "refused"
        return "TLS" if opened.encrypted[-1] else "plain"


@pytest.mark.parametrize("mode", MEANINGS)
async def test_each_sslmode_leads_psycopg2_as_far_as_asyncpg(
    database: Database, certificates: Certificates, mode: str
) -> None:
    query, root = f"?sslmode={mode}", certificates.root
    wanted = tuple(way if way in ("TLS", "plain") else "refused" for way in MEANINGS[mode])
    assert wanted == (
        await travels(database, certificates, query, root, "localhost", plain=False),
        await travels(database, certificates, query, certificates.other_root, "localhost", plain=False),
        await travels(database, certificates, query, root, "127.0.0.1", plain=False),
        await travels(database, None, query, root, "localhost", plain=True),
        await travels(database, certificates, query, None, "localhost", plain=True),
    )


async def test_a_root_that_comes_as_text_is_written_where_libpq_can_read_it(
    database: Database, certificates: Certificates
) -> None:
    text = certificates.root.read_text().replace("\n", "\\n")
    query = "?sslmode=verify-full"
    assert await travels(database, certificates, query, text, "localhost", plain=False) == "TLS"
    other = certificates.other_root.read_text()
    assert await travels(database, certificates, query, other, "localhost", plain=False) == "refused"
    assert len({arguments("postgresql://a/b?sslmode=verify-ca", ssl_root_cert=text)["sslrootcert"] for _ in "12"}) == 1


def test_what_the_connection_string_says_is_said_to_libpq() -> None:
    said = arguments(
        "postgresql://me:secret@one:5433,two:5434/shop?options=endpoint%3Done&connect_timeout=1.5&pgbouncer=true"
    )
    assert said == {
        "host": "one,two",
        "port": "5433,5434",
        "user": "me",
        "password": "secret",
        "dbname": "shop",
        "options": "endpoint=one",
        "target_session_attrs": "primary",
        "connect_timeout": 2,
        "application_name": "a name",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "sslmode": "require",
    }


def test_of_several_hosts_psycopg2_takes_the_one_that_answers(proxy: Proxy) -> None:
    address = proxy.database.address
    there, away = f"{address.host}:{address.port}", f"127.0.0.1:{free_port()}"
    text = proxy.database.url.replace(there, f"{away},{there}")
    assert text != proxy.database.url
    connection = psycopg2.connect(**arguments(text))
    assert str(connection.info.port) == str(address.port)
    connection.close()
