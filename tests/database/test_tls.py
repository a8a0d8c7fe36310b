"""TLS as libpq understands it, tried on a real PostgreSQL behind a server that speaks TLS in front of it."""

import ssl
from pathlib import Path

import pytest

from app.database import connection, url
from app.errors import DatabaseUnavailable, NotConfigured, TlsFailed
from app.settings import Settings
from tests.servers import Database
from tests.tls import Certificates, certify, front

NOT_LOCAL = "0.0.0.0"
"""Leads to this machine on Linux, and is none of the names by which a host is known to be local."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certify(tmp_path_factory.mktemp("certificates"))


async def travels(
    database: Database,
    certificates: Certificates | None,
    query: str,
    root: Path | str | None = None,
    *,
    host: str = "localhost",
    plain: bool = False,
) -> str:
    """How a connection with these parameters gets to the database: "TLS" or "plain"."""
    async with front(database, certificates, plain=plain) as opened:
        address = database.address.set(host=host, port=opened.port, query={})
        text = address.render_as_string(hide_password=False) + query
        settings = Settings(database_url=text, ssl_root_cert=str(root) if root else None)
        async with connection.session(url.database(settings), patient=False) as session:
            assert await session.execute("SELECT 1") == [(1,)]
        (encrypted,) = opened.encrypted
        return "TLS" if encrypted else "plain"


REFUSED, UNAVAILABLE = TlsFailed.slug, DatabaseUnavailable.slug
MEANINGS = {
    #  the server speaks TLS only, and the root is
    #                right  another, or right  | the server  | the server takes both,
    #                       for another name   | has no TLS  | and no root is known
    "disable": (UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, "plain", "plain"),
    "allow": ("TLS", "TLS", "TLS", "plain", "plain"),
    "prefer": ("TLS", "TLS", "TLS", "plain", "TLS"),
    "require": ("TLS", REFUSED, "TLS", REFUSED, "TLS"),  # verifies where a root is given, as verify-ca does
    "verify-ca": ("TLS", REFUSED, "TLS", REFUSED, REFUSED),
    "verify-full": ("TLS", REFUSED, REFUSED, REFUSED, REFUSED),
}
"""PostgreSQL manual, "SSL Support", table "SSL Mode Descriptions"."""


@pytest.mark.parametrize("mode", MEANINGS)
async def test_each_sslmode_means_what_it_means_to_libpq(
    database: Database, certificates: Certificates, mode: str
) -> None:
    query, root = f"?sslmode={mode}", certificates.root

    async def outcome(server: Certificates | None, root: Path | None, host: str, *, plain: bool) -> str:
        try:
            return await travels(database, server, query, root, host=host, plain=plain)
        except DatabaseUnavailable as problem:
            return problem.slug

    assert MEANINGS[mode] == (
        await outcome(certificates, root, "localhost", plain=False),
        await outcome(certificates, certificates.other_root, "localhost", plain=False),
        await outcome(certificates, root, "127.0.0.1", plain=False),
        await outcome(None, root, "localhost", plain=True),
        await outcome(certificates, None, "localhost", plain=True),
    )


async def test_without_an_sslmode_a_remote_host_is_reached_through_tls_only(
    database: Database, certificates: Certificates
) -> None:
    assert await travels(database, certificates, "", host=NOT_LOCAL, plain=True) == "TLS"
    assert await travels(database, certificates, "", certificates.root, host=NOT_LOCAL, plain=True) == "TLS"
    with pytest.raises(TlsFailed, match="does not speak TLS"):
        await travels(database, None, "", host=NOT_LOCAL, plain=True)
    with pytest.raises(TlsFailed, match="certificate"):
        await travels(database, certificates, "", certificates.other_root, host=NOT_LOCAL, plain=True)


async def test_the_root_may_come_as_text_in_whatever_shape_a_dashboard_keeps_it(
    database: Database, certificates: Certificates
) -> None:
    text = certificates.root.read_text()
    both = certificates.other_root.read_text() + text
    for given in (text, text.replace("\n", "\\n"), text.replace("\n", " "), f'"{text.replace("\n", "\r\n")}"', both):
        assert await travels(database, certificates, "?sslmode=verify-full", given) == "TLS"
    with pytest.raises(TlsFailed):
        await travels(database, certificates, "?sslmode=verify-full", certificates.other_root.read_text())


async def test_the_refusal_of_a_chain_carries_openssls_words_and_the_cure(
    database: Database, certificates: Certificates
) -> None:
    for root in (None, certificates.other_root):
        with pytest.raises(TlsFailed, match=r"self.signed certificate in certificate chain") as refused:
            await travels(database, certificates, "?sslmode=verify-full", root)
        assert "MIGRATION_SSL_ROOT_CERT" in refused.value.hint
        assert "sslmode=require" in refused.value.hint
        assert refused.value.retryable is False
    # The second half of the cure: without the variable `require` does not look at the chain.
    assert await travels(database, certificates, "?sslmode=require") == "TLS"


async def test_the_refusal_of_a_name_says_which_name_to_use(database: Database, certificates: Certificates) -> None:
    with pytest.raises(TlsFailed, match=r"not valid for '127\.0\.0\.1'") as refused:
        await travels(database, certificates, "?sslmode=verify-full", certificates.root, host="127.0.0.1")
    assert "host name" in refused.value.hint
    assert "MIGRATION_SSL_ROOT_CERT" not in refused.value.hint


async def test_the_systems_roots_verify_the_name_too_since_anybody_has_a_certificate_of_theirs(
    database: Database, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TlsFailed, match="certificate"):
        await travels(database, certificates, "?sslrootcert=system", plain=True)
    with pytest.raises(NotConfigured, match="sslmode=verify-full"):
        await travels(database, certificates, "?sslrootcert=system&sslmode=verify-ca")
    # Here the root of the test is among the system's.
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(certificates.root))
    for query in ("?sslrootcert=system", "?sslmode=verify-full"):
        assert await travels(database, certificates, query) == "TLS"
        with pytest.raises(TlsFailed, match="not valid for"):
            await travels(database, certificates, query, host="127.0.0.1")
