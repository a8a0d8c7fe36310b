"""Connection strings in, connection arguments out."""

import ssl
import subprocess
import traceback
from pathlib import Path
from typing import Any

import pytest

from app.database import url
from app.errors import NotConfigured
from app.settings import Settings

SESSION = "target_session_attrs"


def database(text: str, **changes: Any) -> url.Database:
    return url.database(Settings(database_url=text, **changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pw@db.example:5433/shop", ("db.example", 5433, "me", "pw", "shop")),
        ("postgres://me:pw@db.example/shop", ("db.example", None, "me", "pw", "shop")),
        ("postgresql+asyncpg://me:pw@db.example/shop", ("db.example", None, "me", "pw", "shop")),
        ("postgresql+psycopg2://me:pw@db.example/shop", ("db.example", None, "me", "pw", "shop")),
        ("  postgresql://me:pw@db.example/shop\n", ("db.example", None, "me", "pw", "shop")),
        ("postgresql://me:p%40%3A%2F%23w@db.example/shop", ("db.example", None, "me", "p@:/#w", "shop")),
        ("postgresql://me@[2001:db8::1]:6432/shop", ("2001:db8::1", 6432, "me", None, "shop")),
        ("postgresql:///shop?host=/run/postgresql", ("/run/postgresql", None, None, None, "shop")),
        ("postgresql://me:@/shop?host=/tmp/pg&port=5433", ("/tmp/pg", 5433, "me", None, "shop")),
        ("postgresql://?host=db.example&user=me&password=pw&dbname=shop", ("db.example", None, "me", "pw", "shop")),
        (
            "postgresql://me@/shop?host=a.example,b.example&port=1,2",
            (["a.example", "b.example"], [1, 2], "me", None, "shop"),
        ),
        (
            "postgresql://me:p,w@a.example:1,b.example,[::1]:3/shop",
            (["a.example", "b.example", "::1"], [1, 5432, 3], "me", "p,w", "shop"),
        ),
        ("postgresql://a.example,b.example", (["a.example", "b.example"], [5432, 5432], None, None, None)),
        ("postgresql://me:p,/w@db.example/shop", ("db.example", None, "me", "p,/w", "shop")),
        ("postgresql://%6De:p%25w@db.example/my%20shop", ("db.example", None, "me", "p%w", "my shop")),
        # as Neon, Supabase and Prisma Postgres write them
        (
            (
                "postgres://neondb_owner:npg_x@ep-a-1-pooler.eu-central-1.aws.neon.tech/neondb"
                "?sslmode=require&channel_binding=require"
            ),
            ("ep-a-1-pooler.eu-central-1.aws.neon.tech", None, "neondb_owner", "npg_x", "neondb"),
        ),
        (
            (
                "postgres://postgres.ref:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
                "?sslmode=require&supa=base-pooler.x&pgbouncer=true"
            ),
            ("aws-0-eu-central-1.pooler.supabase.com", 6543, "postgres.ref", "pw", "postgres"),
        ),
        (
            "postgres://abc:sk_x@db.prisma.io:5432/postgres?sslmode=require&connection_limit=5&pool_timeout=0",
            ("db.prisma.io", 5432, "abc", "sk_x", "postgres"),
        ),
    ],
)
def test_a_connection_string_becomes_arguments(text: str, expected: tuple[Any, ...]) -> None:
    arguments = database(text).arguments
    assert (
        arguments["host"],
        arguments["port"],
        arguments["user"],
        arguments["password"],
        arguments["database"],
    ) == expected
    # Whatever else the string said, asyncpg gets only what it takes.
    assert arguments.keys() == {*("host", "port", "user", "password", "database", "ssl", "timeout"), SESSION}


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_an_sslmode_without_verification_is_handed_on(mode: str) -> None:
    assert database(f"postgresql://db.example/shop?sslmode={mode}").ssl == mode


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ("db.example", "require"),
        ("10.0.0.5", "require"),
        ("localhost", "prefer"),
        ("127.0.0.1", "prefer"),
        ("[::1]", "prefer"),
        ("", "prefer"),
    ],
)
def test_without_an_sslmode_a_remote_host_needs_tls_and_a_local_one_does_not(host: str, mode: str) -> None:
    assert database(f"postgresql://{host}/shop").ssl == mode


def test_a_host_that_only_begins_like_a_local_one_is_remote() -> None:
    assert database("postgresql://localhost.example/shop").ssl == "require"


@pytest.mark.parametrize(("mode", "checks_the_name"), [("verify-ca", False), ("verify-full", True)])
def test_verification_takes_the_systems_roots_and_checks_the_name_only_if_full(
    mode: str, checks_the_name: bool
) -> None:
    context = database(f"postgresql://db.example/shop?sslmode={mode}").ssl
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname is checks_the_name


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed root certificate."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=root.example",
            "-keyout",
            str(folder / "key.pem"),
            "-out",
            str(folder / "root.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "root.pem"


def subjects(context: object) -> list[object]:
    assert isinstance(context, ssl.SSLContext)
    return [found.get("subject") for found in context.get_ca_certs()]


def test_a_root_certificate_may_be_a_path_or_pem_text(certificate: Path) -> None:
    text = certificate.read_text()
    expected = [((("commonName", "root.example"),),)]
    for given in (str(certificate), text, text.replace("\n", "\\n")):
        context = database("postgresql://db.example/shop?sslmode=verify-full", ssl_root_cert=given).ssl
        assert subjects(context) == expected
    in_the_url = database(f"postgresql://db.example/shop?sslmode=verify-full&sslrootcert={certificate}").ssl
    assert subjects(in_the_url) == expected


def test_require_with_a_root_certificate_verifies_the_chain_as_libpq_does(certificate: Path) -> None:
    context = database("postgresql://db.example/shop", ssl_root_cert=str(certificate)).ssl
    assert subjects(context)
    assert isinstance(context, ssl.SSLContext)
    assert not context.check_hostname


def test_roots_are_read_once_and_again_when_their_file_is_replaced(certificate: Path, tmp_path: Path) -> None:
    full = "postgresql://db.example/shop?sslmode=verify-full"
    assert database(full).ssl is database(full).ssl
    assert database(full.replace("-full", "-ca")).ssl is not database(full).ssl
    bundle = tmp_path / "root.pem"
    bundle.write_bytes(certificate.read_bytes())
    before = database(full, ssl_root_cert=str(bundle)).ssl
    assert database(full, ssl_root_cert=str(bundle)).ssl is before
    (tmp_path / "new.pem").write_bytes(certificate.read_bytes())
    (tmp_path / "new.pem").replace(bundle)
    assert database(full, ssl_root_cert=str(bundle)).ssl is not before


@pytest.mark.parametrize("given", ["/nowhere/root.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n", "nonsense"])
def test_a_root_certificate_that_cannot_be_used_is_said_clearly(given: str) -> None:
    with pytest.raises(NotConfigured, match="MIGRATION_SSL_ROOT_CERT is neither"):
        database("postgresql://db.example/shop?sslmode=verify-full", ssl_root_cert=given)


@pytest.mark.parametrize(("query", "seconds"), [("", 10), ("?connect_timeout=3", 3), ("?connect_timeout=0", 10)])
def test_connect_timeout_in_the_url_wins_over_the_setting(query: str, seconds: float) -> None:
    assert database(f"postgresql://db.example/shop{query}").connect_timeout_s == seconds


def test_options_are_kept_for_the_server_and_an_application_name_is_dropped() -> None:
    found = database("postgresql://db.example/shop?options=endpoint%3Dep-a-1&application_name=shop")
    assert found.startup_options == "endpoint=ep-a-1"
    assert "shop" not in {found.user, found.password, found.startup_options}


@pytest.mark.parametrize(
    "text",
    [
        "Tick:Trick@Track",
        "mysql://me:Trick@db.example/shop",
        "https://me:Trick@db.example/shop",
        "postgresql://me:Trick@db.example:port/shop",
        "postgresql://me:Trick@db.example:99999/shop",
        "postgresql://me:Trick@db.example/shop?port=many",
        "postgresql://me:Trick@db.example/shop?sslmode=Trick",
        "postgresql://me:Trick@db.example/shop?connect_timeout=Trick",
        "postgresql://me:Trick@[::1/shop",
        "postgresql://me:Tick@Trick@db.example/shop",
        "postgresql://me:Tick@Trick,Track@db.example/shop",
        "postgresql://me:Trick@a.example:1,b.example:port/shop",
        "postgresql://me:Trick@a.example:1,b.example:0/shop",
        "postgresql://me:Trick@/shop?host=a.example,b.example&port=1,2,3",
        "postgresql://me:Trick@db.example/shop?target_session_attrs=Trick",
        "postgresql://me:Trick@db.example:-1/shop",
        "Trick",
        "://Trick",
    ],
)
def test_an_unusable_connection_string_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        database(text)
    problem = refused.value
    assert problem.members["variables"] == ["MIGRATION_DATABASE_URL"]
    assert "Trick" not in str(problem.document())
    assert "Trick" not in repr(problem)
    assert "Trick" not in "".join(traceback.format_exception(problem))


def test_without_a_connection_string_the_problem_lists_where_it_was_looked_for() -> None:
    with pytest.raises(NotConfigured, match="DATABASE_URL_UNPOOLED, POSTGRES_URL_NON_POOLING, DATABASE_URL"):
        url.database(Settings())


def test_the_repr_shows_no_password() -> None:
    assert "pw-of-mine" not in repr(database("postgresql://me:pw-of-mine@db.example/shop"))


@pytest.mark.parametrize(
    ("text", "session"),
    [
        ("postgresql://db.example/shop", "any"),
        ("postgresql://a.example,b.example/shop", "primary"),
        ("postgresql:///shop?host=a.example,b.example", "primary"),
        ("postgresql://a.example,b.example/shop?target_session_attrs=read-write", "read-write"),
        ("postgresql://db.example/shop?target_session_attrs=any", "any"),
    ],
)
def test_of_several_hosts_the_primary_is_wanted_unless_the_string_says_otherwise(text: str, session: str) -> None:
    assert database(text).arguments[SESSION] == session


def test_without_an_sslmode_one_remote_host_among_several_needs_tls() -> None:
    assert database("postgresql://localhost,127.0.0.1/shop").ssl == "prefer"
    assert database("postgresql://localhost,db.example/shop").ssl == "require"
