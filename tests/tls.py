"""TLS for the tests: a chain of certificates made on the spot, and a server that speaks TLS in front of a database."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Database

_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
"""PostgreSQL manual, "Message Formats": a client asks for TLS before it says anything else."""


@dataclass(frozen=True)
class Certificates:
    """A root, another one, and a server's certificate for the name `localhost`, signed by way of an intermediate."""

    root: Path
    other_root: Path
    chain: Path
    """What the server sends: its certificate, the intermediate and the root, as providers do."""
    key: Path


def certify(folder: Path) -> Certificates:
    """Make the certificates."""

    def make(name: str, common_name: str, *extensions: str, signed_by: str | None = None) -> Path:
        out, key = folder / f"{name}.pem", folder / f"{name}.key"
        ca = ("-CA", str(folder / f"{signed_by}.pem"), "-CAkey", str(folder / f"{signed_by}.key")) if signed_by else ()
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", "1", "-subj", f"/CN={common_name}", "-out", str(out), "-keyout", str(key), *ca),
                *(part for each in extensions for part in ("-addext", each)),
            ],
            check=True,
            capture_output=True,
        )
        return out

    authority = "keyUsage=critical,keyCertSign"
    root = make("root", "root.example", authority)
    other = make("other", "other.example", authority)
    between = make("between", "between.example", authority, signed_by="root")
    server = make(
        "server", "localhost", "basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost", signed_by="between"
    )
    chain = folder / "chain.pem"
    chain.write_text("".join(each.read_text() for each in (server, between, root)))
    return Certificates(root, other, chain, folder / "server.key")


@dataclass
class Front:
    """A port that leads to a database, and how each connection that went through it travelled."""

    port: int = 0
    encrypted: list[bool] = field(default_factory=list)


_FIELDS = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for this host, no encryption\0\0"
_NO_ENCRYPTION = b"E" + (4 + len(_FIELDS)).to_bytes(4) + _FIELDS
"""An ErrorResponse (PostgreSQL manual, "Message Formats")."""


@asynccontextmanager
async def front(
    database: Database,
    certificates: Certificates | None,
    *,
    plain: bool = False,
    silent: bool = False,
    says_why: bool = False,
) -> AsyncIterator[Front]:
    """A server in front of the database.

    Args:
        database: Where it leads to.
        certificates: What it speaks TLS with; None for a server that does not.
        plain: Whether it takes connections without TLS.
        silent: Whether it says nothing more once a connection is encrypted.
        says_why: Whether it answers a connection without TLS that it does not take, as PostgreSQL does.
    """
    opened = Front()
    context = None
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates.chain, certificates.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError, OSError, EOFError):
            try:
                first, encrypted = await reader.readexactly(8), False
                if first == _SSL_REQUEST:
                    writer.write(b"S" if context else b"N")
                    if context:
                        await writer.start_tls(context)
                        encrypted = True
                    first = await reader.readexactly(8)
                if not encrypted and not plain:
                    if says_why:
                        writer.write(_NO_ENCRYPTION)
                        await writer.drain()
                    return
                if silent:
                    await reader.read()
                opened.encrypted.append(encrypted)
                await _forward(database, reader, writer, first)
            finally:
                writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        opened.port = server.sockets[0].getsockname()[1]
        yield opened


async def _forward(
    database: Database, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
) -> None:
    address, folder = database.address, str(database.address.query.get("host", ""))
    port = address.port or 5432
    far_reader, far_writer = await (
        asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        if folder
        else asyncio.open_connection(address.host, port)
    )
    far_writer.write(first)
    async with asyncio.TaskGroup() as both:
        both.create_task(_hand_on(reader, far_writer))
        both.create_task(_hand_on(far_reader, writer))


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ssl.SSLError, OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
