"""Round trips are counted by what a client says."""

from collections import Counter
from pathlib import Path

import psycopg

from bench import round_trips
from tests.conversation import Conversation
from tests.proxy import Proxy
from tests.servers import Postgres, until


def test_ours_and_alembic_s_are_counted(postgres: Postgres, tmp_path: Path) -> None:
    found = round_trips.measure(postgres, tmp_path, few=1, many=2)
    connections, idle, beside_asyncpg, beside_psycopg = found.goals
    assert connections.value == 1
    assert 1 <= idle.value <= 2
    assert 0 < beside_asyncpg.value <= 1
    assert beside_psycopg.value > beside_asyncpg.value, "asyncpg asks for the types of each statement first"
    assert f"| 1 to connect, and {idle.value:.0f} |" in found.table


def test_a_session_without_a_name_is_counted_too(proxy: Proxy) -> None:
    for name, options in (("", ""), ("somebody", "&application_name=somebody")):
        with psycopg.connect(f"{proxy.database.url}{options}", autocommit=True) as session:
            session.execute("SELECT 1")
            session.execute("SELECT %s", [1])  # Parse, Bind, Describe, Execute and one Sync
        until(lambda: not proxy.names(), what="the proxy to notice the end")
        assert (proxy.logins[name], proxy.questions[name]) == (1, 2)
    assert proxy.most_at_once == 1
    proxy.forget()
    assert not proxy.questions | proxy.logins
    assert proxy.most_at_once == 0


def test_what_is_no_session_is_not_counted() -> None:
    logins, questions = Counter[str](), Counter[str]()
    hello = Conversation(logins, questions)
    hello.hear(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # how TLS begins
    hello.hear(b"Q\x00\x00\x00\x0dSELECT 1\x00")
    assert not logins | questions


def test_a_question_is_counted_however_it_arrives() -> None:
    logins, questions = Counter[str](), Counter[str]()
    conversation = Conversation(logins, questions)
    startup = b"\x00\x03\x00\x00user\x00x\x00application_name\x00me\x00\x00"
    said = (len(startup) + 4).to_bytes(4) + startup + b"Q\x00\x00\x00\x0dSELECT 1\x00" + b"H\x00\x00\x00\x04" * 2
    for byte in said:
        conversation.hear(bytes([byte]))
    assert (logins, questions) == ({"me": 1}, {"me": 3})
