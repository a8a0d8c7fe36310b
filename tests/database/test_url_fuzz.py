"""Connection strings that nobody wrote by hand: what is built comes back exactly, and nothing is ever quoted."""

import math
import ssl
import traceback
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from app.database import url
from app.errors import NotConfigured
from app.settings import Settings
from tests.fuzzing import examples

SECRET = "Sesame-open-thyself"
"""Put wherever a password may stand; it holds nothing that would have to be %-encoded."""

MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
SESSIONS = ["any", "primary", "standby", "read-write", "read-only", "prefer-standby"]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Half of a surrogate pair has no place in UTF-8, and thus none behind a %."""


def encoded(value: str) -> str:
    return quote(value, safe="")


# --- what is built comes back


@dataclass(frozen=True)
class Place:
    """A host as it stands in a URL, and as it is meant."""

    written: str
    meant: str
    is_local: bool


label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
names = st.lists(label, min_size=2, max_size=4).map(".".join).filter(lambda name: not name.startswith("127."))
sockets = (
    st.lists(st.text("abc 019_.-é", min_size=1, max_size=6), min_size=1, max_size=3).map("/".join).map("/{}".format)
)
places = st.one_of(
    names.map(lambda name: Place(name, name, is_local=False)),
    st.sampled_from(["localhost", "127.0.0.1", "127.8.9.1"]).map(lambda host: Place(host, host, is_local=True)),
    st.ip_addresses(v=6).map(lambda ip: Place(f"[{ip}]", str(ip), is_local=str(ip) == "::1")),
    sockets.map(lambda path: Place(encoded(path), path, is_local=True)),
)
hosts = st.lists(st.tuples(places, st.none() | st.integers(1, 65535)), max_size=4)
dropped = st.fixed_dictionaries(
    {},
    optional={
        "channel_binding": st.sampled_from(["require", "prefer", "disable"]),
        "pgbouncer": st.sampled_from(["true", "false"]),
        "supa": text.map("base-pooler.{}".format),
        "connection_limit": st.integers(0, 100).map(str),
        "pool_timeout": st.integers(0, 100).map(str),
        "application_name": text,
        "sslrootcert": st.just("/nowhere/root.pem"),  # only read where something is verified
    },
)
kept = st.fixed_dictionaries(
    {},
    optional={
        "sslmode": st.sampled_from(["disable", "allow", "prefer", "require"]),
        "connect_timeout": st.integers(-1, 100).map(str),
        "options": text.map("endpoint={}".format),
        "target_session_attrs": st.sampled_from(SESSIONS),
    },
)


@examples(200)
@given(
    scheme=st.sampled_from(["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"]),
    user=st.none() | text.filter(bool),
    password=st.none() | text,
    hosts=hosts,
    name=st.none() | text.filter(bool),
    kept=kept,
    dropped=dropped,
    order=st.randoms(use_true_random=False),
)
def test_every_part_of_a_url_comes_back_as_it_was_meant(
    scheme: str,
    user: str | None,
    password: str | None,
    hosts: list[tuple[Place, int | None]],
    name: str | None,
    kept: dict[str, str],
    dropped: dict[str, str],
    order: Any,
) -> None:
    is_local = all(place.is_local for place, _ in hosts)
    mode = kept.get("sslmode", "prefer" if is_local else "require")
    if mode == "require":
        dropped.pop("sslrootcert", None)  # it would be read
    parameters = [f"{key}={encoded(value)}" for key, value in (kept | dropped).items()]
    order.shuffle(parameters)
    built = (
        f"{scheme}://"
        + (f"{encoded(user or '')}{'' if password is None else ':' + encoded(password)}@" if user or password else "")
        + ",".join(place.written + (f":{port}" if port else "") for place, port in hosts)
        + (f"/{encoded(name)}" if name else "")
        + (f"?{'&'.join(parameters)}" if parameters else "")
    )

    found = url.database(Settings(database_url=built, connect_timeout=7)).arguments

    several = len(hosts) > 1
    meant = [place.meant for place, _ in hosts]
    ports = [port or (5432 if several else None) for _, port in hosts]
    seconds = int(kept.get("connect_timeout", 0))
    assert found == {
        "host": meant if several else meant[0] if meant else None,
        "port": ports if several else ports[0] if ports else None,
        "user": user,
        "password": password or None,
        "database": name,
        "ssl": mode,
        "timeout": seconds if seconds > 0 else 7,
        "target_session_attrs": kept.get("target_session_attrs", "primary" if several else "any"),
    }
    assert url.database(Settings(database_url=built)).startup_options == kept.get("options")


@examples(100)
@given(
    parts=st.fixed_dictionaries({}, optional={"user": text, "password": text, "dbname": text}),
    place=names | sockets,
    port=st.none() | st.integers(1, 65535),
    before=st.sampled_from(["", "other.example", "other.example:1", "one.example,two.example"]),
)
def test_a_part_that_stands_in_the_query_wins_as_in_libpq(
    parts: dict[str, str], place: str, port: int | None, before: str
) -> None:
    # Cloud SQL and others write `user:password@localhost/shop?host=/cloudsql/…`.
    query = parts | {"host": place, "port": str(port or 5433)}
    built = f"postgresql://me:pw@{before}/shop?" + "&".join(f"{key}={encoded(value)}" for key, value in query.items())
    found = url.database(Settings(database_url=built))
    assert (found.host, found.port) == (place, port or 5433)
    assert found.user == (parts.get("user") or "me")
    assert found.password == (parts.get("password") or "pw")
    assert found.name == (parts.get("dbname") or "shop")


# --- any text

pieces = st.lists(
    st.sampled_from(
        [
            *(
                "postgresql://",
                "postgres://",
                "postgresql+asyncpg://",
                "mysql://",
                "://",
                ":",
                "//",
                "/",
                "@",
                ",",
                "?",
            ),
            *("&", "=", "#", "%", "%2", "%zz", "%00", "%ff", "%40", "[", "]", "[::1]", "[::1", "fe80::1%25eth0", "+"),
            *(
                "db.example",
                "localhost",
                "me",
                SECRET,
                f":{SECRET}@",
                "5432",
                ":0",
                ":99999",
                ":-1",
                ":5432",
                ":٣",
                ":²",
            ),
            *("sslmode=", "sslrootcert=", "host=", "port=", "user=", "password=", "connect_timeout=", "options="),
            *("target_session_attrs=", "verify-full", "verify-ca", "require", "~nobody/", "~", "-----BEGIN ", "é"),
            *("nan", "inf", "1e400", "-1", "0", "\0", "\n", " ", "\ud800", "\udcff", "9" * 5000, "shop"),
        ]
    )
    | st.text(max_size=3),
    max_size=14,
).map("".join)
UMLAUT = "-----BEGIN CERTIFICATE-----\nMIIBé\n-----END CERTIFICATE-----"
root_certs = st.none() | st.sampled_from(
    [
        UMLAUT,
        "-----BEGIN é",
        "-----BEGIN \ud800",
        "~nobody-of-this-name/root.pem",
        "\0",
        ".",
        "/nowhere",
        "é" * 300,
        "system",
    ]
)


def usable_or_refused(settings: Settings) -> url.Database | NotConfigured:
    try:
        return url.database(settings)
    except NotConfigured as refused:
        return refused


def assert_is_usable(found: url.Database) -> None:
    hosts = found.host if isinstance(found.host, tuple) else (found.host,)
    ports = found.port if isinstance(found.port, tuple) else (found.port,)
    assert len(ports) in (1, len(hosts))
    assert all(port is None or 0 < port < 65536 for port in ports)
    assert "" not in (*hosts, found.user, found.password, found.name)
    assert 0 < found.connect_timeout_s < math.inf
    assert isinstance(found.ssl, ssl.SSLContext) or found.ssl in MODES
    assert found.session in SESSIONS


@examples(300)
@given(before=pieces | st.text(max_size=30), after=pieces, root_cert=root_certs)
@example(
    before="postgresql://h/", after="?sslmode=verify-full&sslrootcert=~nobody-of-this-name/root.pem", root_cert=None
)
@example(before="postgresql://h/", after="?sslmode=verify-full", root_cert=UMLAUT)
@example(before="postgresql://h/", after="?connect_timeout=inf", root_cert=None)
@example(before="postgresql://h/", after="?connect_timeout=nan", root_cert=None)
@example(before="postgresql://h/d?sslmode=", after="", root_cert=None)
@example(before="postgresql://h/d?port=", after="", root_cert=None)
@example(before="postgresql://h,", after=",/d", root_cert=None)
@example(before="postgresql://h:", after="/d", root_cert=None)
def test_any_text_is_usable_or_refused_and_never_quoted(before: str, after: str, root_cert: str | None) -> None:
    text = before + SECRET + after
    found = usable_or_refused(Settings(database_url=text, ssl_root_cert=root_cert))
    if isinstance(found, url.Database):
        assert_is_usable(found)
        return
    assert SECRET not in str(found.document()) + repr(found) + "".join(traceback.format_exception(found))
    assert found.members["variables"] in (["MIGRATION_DATABASE_URL"], ["MIGRATION_SSL_ROOT_CERT"])


password_parts = st.text(st.characters(exclude_characters="="), max_size=10)
"""Of `me:a@b?c=d@host` nobody can tell whether it has a query."""


@examples(200)
@given(before=password_parts, after=password_parts, rest=pieces)
@example(before="", after="@", rest="db.example/shop")
@example(before="a@", after="", rest="db.example,two.example/shop")
@example(before="a@b/", after="", rest="db.example/shop")
@example(before="@", after="?", rest="db.example/shop")
@example(before="#", after="/", rest="db.example/shop")
def test_a_password_is_never_shown_however_badly_it_is_encoded(before: str, after: str, rest: str) -> None:
    found = usable_or_refused(
        Settings(database_url=f"postgresql://me:{before}{SECRET}{after}@{rest.replace(SECRET, '')}")
    )
    assert SECRET not in repr(found)
    assert SECRET not in str(found)
    if isinstance(found, NotConfigured):
        assert SECRET not in str(found.document())
