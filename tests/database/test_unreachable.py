"""What poolers and proxies say, in the words of their sources, where no test can have the provider itself."""

import errno

import asyncpg
import pytest

from app.database import unreachable, url
from app.errors import DatabaseAuthFailed, DatabaseUnavailable, PermissionDenied, ReadOnlyDatabase, TlsFailed
from app.settings import Settings

SHOP = url.database(Settings(database_url="postgresql://me@db.example/shop"))
NOT_NOW = {
    "Couldn't connect to compute node": "XX000",  # Neon: proxy/src/compute, proxy/src/control_plane
    "Control plane request failed": "XX000",
    "Failed to acquire permit to connect to the database. Too many database connection attempts are currently "
    "ongoing.": "XX000",
    "(EMAXCONN) max client connections reached, limit: 200": "XX000",  # Supavisor: lib/supavisor/errors
    "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15": "XX000",
    "DbHandler exited. Check logs for more information": "XX000",
    "connection failure during authentication": "08006",
    "server login has been failing, try again later (server_login_retry)": "08P01",  # PgBouncer: src/client.c
    "remaining connection slots are reserved for roles with the SUPERUSER attribute": "08P01",
}
FOR_GOOD: dict[str, tuple[str, type[DatabaseUnavailable]]] = {
    "Control plane request failed: endpoint is disabled": ("XX000", DatabaseUnavailable),
    "Your project has exceeded the data transfer quota. Upgrade your plan to increase limits.": (
        "XX000",
        DatabaseUnavailable,
    ),
    "connection is insecure (try using `sslmode=require`)": ("28000", TlsFailed),
    "cannot execute CREATE TABLE in a read-only transaction": ("25006", ReadOnlyDatabase),
    "SSL connection is required": ("XX000", TlsFailed),
    "SSL required": ("08P01", TlsFailed),
    "Tenant or user not found": ("XX000", DatabaseAuthFailed),
    "(ENOTFOUND) tenant/user postgres.abcdef not found": ("XX000", DatabaseAuthFailed),
    "password authentication failed": ("08P01", DatabaseAuthFailed),
    'permission denied for database "shop"': ("08P01", PermissionDenied),
    "no such database: shop": ("08P01", DatabaseUnavailable),
    "unsupported startup parameter in options: search_path": ("08P01", DatabaseUnavailable),
}


def answer(words: str, sqlstate: str) -> asyncpg.PostgresError:
    """The driver's error for an answer."""
    return asyncpg.PostgresError.new({"S": "FATAL", "C": sqlstate, "M": words})


@pytest.mark.parametrize(("words", "sqlstate"), NOT_NOW.items())
def test_what_a_provider_says_of_a_database_that_is_busy_or_waking_is_tried_again(words: str, sqlstate: str) -> None:
    assert len(unreachable.pauses_after(answer(words, sqlstate))) == 4
    assert unreachable.translated(answer(words, sqlstate), SHOP).retryable


@pytest.mark.parametrize(("words", "sqlstate", "kind"), [(words, *rest) for words, rest in FOR_GOOD.items()])
def test_what_a_provider_says_for_good_is_not_tried_again(
    words: str, sqlstate: str, kind: type[DatabaseUnavailable]
) -> None:
    assert unreachable.pauses_after(answer(words, sqlstate)) == ()
    problem = unreachable.translated(answer(words, sqlstate), SHOP)
    assert type(problem) is kind
    assert not problem.retryable


def test_the_words_of_a_statement_are_not_taken_for_a_poolers() -> None:
    raised = answer("SSL required: the database system is no such database, too many clients", "P0001")
    assert unreachable.pauses_after(raised) == ()
    assert unreachable.translated(raised, SHOP).hint.startswith("Look at what it says")


def test_of_several_addresses_one_that_refuses_is_worth_another_try() -> None:
    # As asyncio sums up what happened to a host with an IPv6 and an IPv4 address.
    both = OSError(
        "Multiple exceptions: [Errno 99] Connect call failed ('::1', 5432, 0, 0), "
        "[Errno 111] Connect call failed ('127.0.0.1', 5432)"
    )
    assert len(unreachable.pauses_after(both)) == 2
    assert unreachable.translated(both, SHOP).detail.endswith("Cannot assign requested address, Connection refused.")
    assert unreachable.pauses_after(OSError(errno.ENETUNREACH, "Connect call failed ('::1', 5432, 0, 0)")) == ()


def test_a_host_name_that_cannot_be_one_is_said_to_have_no_address() -> None:
    name = "a" * 70 + ".example"
    with pytest.raises(UnicodeError) as refused:
        name.encode("idna")
    assert "No address was found" in unreachable.translated(refused.value, SHOP).detail
    assert unreachable.pauses_after(refused.value) == ()
