"""TLS as libpq understands it, tried on a real PostgreSQL behind a server that speaks TLS in front of it."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.database import connection, url
from app.errors import TlsFailed
from app.settings import Settings
from tests.servers import Database

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
"""PostgreSQL manual, "Message Formats": a client asks for TLS before it says anything else."""


@dataclass(frozen=True)
class Certificates:
    """A root, and a server's certificate that it signed for the name `localhost`."""

    root: Path
    other_root: Path
    server: Path
    key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    made = Certificates(*(folder / name for name in ("root.pem", "other.pem", "server.pem", "server.key")))

    def certify(name: str, out: Path, key: Path, *options: str) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", "1", "-subj", f"/CN={name}", "-out", str(out), "-keyout", str(key), *options),
            ],
            check=True,
            capture_output=True,
        )

    root_key = folder / "root.key"
    certify("root.example", made.root, root_key, "-addext", "keyUsage=critical,keyCertSign")
    certify("other.example", made.other_root, folder / "other.key", "-addext", "keyUsage=critical,keyCertSign")
    signed = ("-CA", str(made.root), "-CAkey", str(root_key), "-addext", "basicConstraints=critical,CA:FALSE")
    certify("localhost", made.server, made.key, *signed, "-addext", "subjectAltName=DNS:localhost")
    return made


@asynccontextmanager
async def speaking_tls(database: Database, certificates: Certificates) -> AsyncIterator[int]:
    """A port where PostgreSQL is reached through TLS and in no other way."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.key)
    address, socket = database.address, str(database.address.query.get("host", ""))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError, OSError, EOFError):
            try:
                if await reader.readexactly(8) != SSL_REQUEST:
                    return
                writer.write(b"S")
                await writer.start_tls(context)
                port = address.port or 5432
                far_reader, far_writer = await (
                    asyncio.open_unix_connection(f"{socket}/.s.PGSQL.{port}")
                    if socket
                    else asyncio.open_connection(address.host, port)
                )
                async with asyncio.TaskGroup() as both:
                    both.create_task(hand_on(reader, far_writer))
                    both.create_task(hand_on(far_reader, writer))
            finally:
                writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ssl.SSLError, OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def answer(
    database: Database, certificates: Certificates, host: str, query: str, root: Path | None = None
) -> object:
    """What `SELECT 1` answers over a connection made with these parameters."""
    async with speaking_tls(database, certificates) as port:
        address = database.address.set(host=host, port=port, query={})
        text = address.render_as_string(hide_password=False) + query
        settings = Settings(database_url=text, ssl_root_cert=str(root) if root else None)
        async with connection.session(url.database(settings)) as session:
            return (await session.execute("SELECT 1"))[0][0]


@pytest.mark.parametrize("mode", ["prefer", "require"])
async def test_without_verification_any_certificate_will_do(
    database: Database, certificates: Certificates, mode: str
) -> None:
    assert await answer(database, certificates, "127.0.0.1", f"?sslmode={mode}") == 1


@pytest.mark.parametrize("query", ["?sslmode=verify-full", "?sslmode=verify-ca", "?sslmode=require", ""])
async def test_the_right_root_and_the_right_name_are_let_through(
    database: Database, certificates: Certificates, query: str
) -> None:
    assert await answer(database, certificates, "localhost", query, certificates.root) == 1


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])  # require verifies where a root is given
async def test_a_certificate_of_another_root_is_refused(
    database: Database, certificates: Certificates, mode: str
) -> None:
    with pytest.raises(TlsFailed, match="localhost"):
        await answer(database, certificates, "localhost", f"?sslmode={mode}", certificates.other_root)


async def test_a_certificate_for_another_name_is_refused_by_verify_full_alone(
    database: Database, certificates: Certificates
) -> None:
    with pytest.raises(TlsFailed, match=r"127\.0\.0\.1") as refused:
        await answer(database, certificates, "127.0.0.1", "?sslmode=verify-full", certificates.root)
    assert "MIGRATION_SSL_ROOT_CERT" in refused.value.hint
    assert await answer(database, certificates, "127.0.0.1", "?sslmode=verify-ca", certificates.root) == 1


async def test_a_certificate_that_the_system_does_not_know_is_refused(
    database: Database, certificates: Certificates
) -> None:
    with pytest.raises(TlsFailed):
        await answer(database, certificates, "localhost", "?sslmode=verify-full")
