"""Where the database is: from a connection string, as a provider writes it, to asyncpg's arguments."""

import base64
import functools
import math
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from app.database import connection_string, providers
from app.database.connection_string import Parts
from app.database.providers import Pooled
from app.errors import NotConfigured
from app.settings import DATABASE_VARIABLES, Settings, variable

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_SSL_MODES: tuple[SslMode, ...] = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_SEVERAL_HOSTS = re.compile(
    r"(?P<before>\w[\w+]*://(?:[^@]*@|(?!.*@)))(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>[/?].*|$)", re.DOTALL
)
_HOST_AND_PORT = re.compile(r"^(\[[^\]]*\]|[^:]*):?(.*)")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_PEM = "-----BEGIN"
_SYSTEM = "system"
"""libpq's `sslrootcert=system`: the roots that the operating system trusts."""
_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2")


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is and how to connect to it. Its repr shows no secret."""

    host: str | tuple[str, ...] | None
    port: int | tuple[int, ...] | None
    user: str | None
    password: str | None = field(repr=False)
    name: str | None
    ssl: "SslMode | ssl.SSLContext"
    connect_timeout_s: float
    startup_options: str | None = None
    """libpq's `options`; Neon reads its endpoint from it."""
    session: str = "any"
    """libpq's `target_session_attrs`: which of several hosts will do."""
    variable: str = DATABASE_VARIABLES[0]
    """Where the connection string came from."""
    pooled: Pooled | None = None
    """What the connection string itself tells of a pooler in transaction mode."""
    ssl_mode: SslMode = "prefer"
    """What `ssl` was made of, for libpq: libpq's `sslmode`, and where its root certificates are."""
    root_cert: str | None = field(default=None, repr=False)

    @property
    def places(self) -> tuple[tuple[str | None, int | None], ...]:
        """Each host with its port, in the order in which they are tried; None where asyncpg knows a default."""
        hosts = self.host if isinstance(self.host, tuple) else (self.host,)
        ports = self.port if isinstance(self.port, tuple) else (self.port,) * len(hosts)
        return tuple(zip(hosts, ports, strict=True))

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `asyncpg.connect`."""
        return {
            "host": list(self.host) if isinstance(self.host, tuple) else self.host,
            "port": list(self.port) if isinstance(self.port, tuple) else self.port,
            "user": self.user,
            "password": self.password,
            "database": self.name,
            "ssl": self.ssl,
            "timeout": self.connect_timeout_s,
            "target_session_attrs": self.session,
        }


def database(settings: Settings) -> Database:
    """Say where the database of `settings` is.

    `sslmode` has libpq's meaning (PostgreSQL manual, "SSL Support"); without one, a remote host gets `require`
    and a local one `prefer`. Parameters for other clients (`pgbouncer`, `connection_limit`, `channel_binding`,
    `application_name` and the like) are dropped: asyncpg would refuse them.

    Raises:
        NotConfigured: There is no connection string, or it cannot be used. The message never quotes it.
    """
    if settings.database_url is None:
        raise providers.no_connection_string(settings.connection_strings)
    text, several = _without_several_hosts(settings.database_url.get_secret_value().strip())
    if providers.is_for_prisma_only(text):
        raise providers.for_prisma_only(settings.database_variable, settings.connection_strings)
    try:
        url = connection_string.parts(text)
    except ValueError:
        raise _unusable("it is not of the form postgresql://user:password@host:5432/database") from None
    if url.drivername not in _SCHEMES:
        raise _unusable("it must begin with postgresql://")
    if _has_a_second_at(url, text):
        raise _unusable("an @ inside the password must be written as %40")

    # What stands in the query wins, as in libpq: Cloud SQL has `user:password@localhost/shop?host=/cloudsql/…`.
    query = url.query
    root_cert = settings.ssl_root_cert or query.get("sslrootcert")
    written_host, written_port = several or (url.host, url.port)
    host, port = _hosts(query.get("host") or unquote(written_host or ""), query.get("port") or written_port)
    mode = _ssl_mode(query.get("sslmode"), root_cert, host)
    return Database(
        host=host,
        port=port,
        user=query.get("user") or url.username or None,
        password=query.get("password") or url.password or None,
        name=query.get("dbname") or url.database or None,
        ssl=_ssl(mode, root_cert),
        ssl_mode=mode,
        root_cert=root_cert,
        connect_timeout_s=_seconds(query.get("connect_timeout"), settings.connect_timeout),
        startup_options=query.get("options"),
        session=_session(query.get("target_session_attrs"), host),
        variable=settings.database_variable,
        pooled=providers.pooled(host, port, query),
    )


def _unusable(why: str) -> NotConfigured:
    return NotConfigured(
        f"The connection string cannot be used: {why}.",
        hint=f"Copy it from your provider into {DATABASE_VARIABLES[0]}; %-encode @ : / and # in the password.",
        variables=[variable("database_url")],
    )


def _has_a_second_at(url: Parts, text: str) -> bool:
    """Whether what follows the first @ is the rest of a password, which would be quoted as an unknown host or name."""
    place, _, query = text.partition("://")[2].partition("@")[2].partition("?")
    return bool(url.username or url.password) and "@" in place + query.partition("=")[0]


def _without_several_hosts(text: str) -> tuple[str, tuple[str, str] | None]:
    """Take libpq's `host:port,host:port` out of a connection string, which the grammar of URLs does not know."""
    found = _SEVERAL_HOSTS.fullmatch(text)
    if found is None:
        return text, None
    places = [_HOST_AND_PORT.findall(each)[0] for each in found["hosts"].split(",")]
    hosts = ",".join(host.strip("[]") for host, _ in places)
    return found["before"] + found["after"], (hosts, ",".join(port or "5432" for _, port in places))


def _session(wanted: str | None, host: str | tuple[str, ...] | None) -> str:
    if wanted is not None and wanted not in _SESSIONS:
        raise _unusable(f"its target_session_attrs is none of {', '.join(_SESSIONS)}")
    # Revisions write: of several hosts only the primary will do, unless the string says otherwise.
    return wanted or ("primary" if isinstance(host, tuple) else "any")


def _hosts(
    host: str | None, port: int | str | None
) -> tuple[str | tuple[str, ...] | None, int | tuple[int, ...] | None]:
    """One host and port, or libpq's comma-separated lists of them."""
    hosts = tuple(host.split(",")) if host else ()
    if "" in hosts:
        raise _unusable("one of its hosts is empty")
    try:
        ports = tuple(int(each) for each in str(port).split(",")) if port else ()
    except ValueError:
        raise _unusable("its port is not a number") from None
    if any(not 0 < each < 65536 for each in ports):  # noqa: PLR2004 – the ports there are
        raise _unusable("its port is not between 1 and 65535")
    if len(ports) > 1 and len(ports) != len(hosts):
        raise _unusable("it has not as many ports as hosts")
    return (
        hosts if len(hosts) > 1 else hosts[0] if hosts else None,
        ports if len(ports) > 1 else ports[0] if ports else None,
    )


def _seconds(text: str | None, otherwise: float) -> float:
    if text is None:
        return otherwise
    try:
        seconds = float(text)
    except ValueError:
        raise _unusable("its connect_timeout is not a number") from None
    # libpq: zero, negative or absent means to wait for ever; a function cannot, so the setting stays.
    return seconds if 0 < seconds < math.inf else otherwise


def _is_local(host: str | tuple[str, ...] | None) -> bool:
    hosts = host if isinstance(host, tuple) else (host or "",)
    return all(
        not each or each.startswith(("/", "@", "127.")) or each in ("localhost", "::1", "[::1]") for each in hosts
    )


def _ssl_mode(mode: str | None, root_cert: str | None, host: str | tuple[str, ...] | None) -> SslMode:
    if mode is not None and mode not in _SSL_MODES:
        raise _unusable(f"its sslmode is none of {', '.join(_SSL_MODES)}")
    default: SslMode = "verify-full" if root_cert == _SYSTEM else "prefer" if _is_local(host) else "require"
    chosen = next((each for each in _SSL_MODES if each == mode), default)
    if root_cert == _SYSTEM and chosen != "verify-full":  # anybody has a certificate that one of these roots signed
        raise _unusable(f"the system's root certificates need sslmode=verify-full, and it has sslmode={chosen}")
    return "verify-ca" if chosen == "require" and root_cert else chosen  # as libpq does with a root certificate


def _ssl(chosen: SslMode, root_cert: str | None) -> "SslMode | ssl.SSLContext":
    if chosen not in ("verify-ca", "verify-full"):
        return chosen
    try:
        return _context(root_cert, _version_of(root_cert), checks_the_name=chosen == "verify-full")
    except (OSError, ValueError, RuntimeError):  # ssl.SSLError is an OSError; RuntimeError is a ~ that is nobody's
        raise NotConfigured(
            "MIGRATION_SSL_ROOT_CERT is neither the path of a readable certificate file nor PEM text.",
            variables=[variable("ssl_root_cert")],
        ) from None


@functools.lru_cache(maxsize=8)
def _context(root_cert: str | None, _version: object, *, checks_the_name: bool) -> ssl.SSLContext:
    """One for all connections: to read the system's roots takes longer than all the rest of an answer."""
    context = _trusting(root_cert)
    context.check_hostname = checks_the_name
    return context


def _version_of(root_cert: str | None) -> object:
    """Another one when a file of certificates is replaced, as the system's and a provider's are in time."""
    if root_cert is not None and _PEM in root_cert:
        return None
    if root_cert is None or root_cert == _SYSTEM:
        system = ssl.get_default_verify_paths()
        paths = list(filter(None, (system.cafile, system.capath)))
    else:
        paths = [root_cert]
    seen = [(path, Path(path).expanduser().stat()) for path in paths]
    return tuple((path, stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in seen)


def _trusting(root_cert: str | None) -> ssl.SSLContext:
    if root_cert is None or root_cert == _SYSTEM:
        context = ssl.create_default_context()
    elif text := pem(root_cert):  # serverless has no files
        context = ssl.create_default_context(cadata=text)
    else:
        context = ssl.create_default_context(cafile=str(Path(root_cert).expanduser()))
    # Python 3.13 began to refuse roots that lack an extension, as those of several providers do; libpq takes them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def pem(root_cert: str) -> str | None:
    """The certificates of a setting that is PEM text, in good order; None where it is a path.

    A dashboard may have turned their line breaks into backslashes, or into spaces.

    Raises:
        ValueError: There is no certificate in it.
    """
    if _PEM not in root_cert:
        return None
    bodies = _CERTIFICATE.findall(root_cert.replace("\\r", "").replace("\\n", ""))
    if not bodies:
        raise ValueError("no certificate in it")
    return "".join(ssl.DER_cert_to_PEM_cert(base64.b64decode(body)) for body in bodies)
