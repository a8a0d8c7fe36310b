"""Rows over the simple query protocol, against a real server."""

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from app.database import connection, url
from app.database.literals import literal
from app.database.simple_query import ResultSet, send
from tests.conftest import MakeSettings
from tests.servers import Database


@pytest.fixture
async def wire(settings: MakeSettings) -> AsyncIterator["asyncpg.Connection[Any]"]:
    opened = await connection.connect(url.database(settings()), application_name="test")
    yield opened
    await connection.close(opened)


type Wire = asyncpg.Connection[Any]


async def rows(wire: Wire, sql: str) -> list[tuple[Any, ...]]:
    return (await send(wire, sql))[-1].rows


async def test_each_statement_of_a_string_has_its_result(wire: Wire) -> None:
    results = await send(
        wire,
        "CREATE TEMP TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL);"
        "UPDATE t SET a = a + 10; SELECT * FROM t ORDER BY a; DELETE FROM t WHERE a = 11",
    )
    assert [result.status for result in results] == ["CREATE TABLE", "INSERT 0 2", "UPDATE 2", "SELECT 2", "DELETE 1"]
    assert [column.name for column in results[3].columns] == ["a", "b"]
    assert results[3].rows == [(11, "x"), (12, None)]
    assert results[4].rows == []


async def test_values_come_back_as_python_has_them(wire: Wire) -> None:
    ((*values,),) = await rows(
        wire,
        "SELECT true, false, '\\xdeadbeef'::bytea, 9223372036854775807, 7::int2, -5, 4294967295::oid,"
        "'{\"a\": [1]}'::json, '{\"b\": null}'::jsonb, 1.5::float4, 2.25::float8, '2024-02-29'::date,"
        "'2024-02-29 12:30:00.25'::timestamp, '2024-02-29 12:30:00+00'::timestamptz, 1.10::numeric,"
        "'6f2ec1de-2ad8-4d2c-9d5c-2a2b3c4d5e6f'::uuid, 'text', NULL, ''",
    )
    assert values == [
        True,
        False,
        b"\xde\xad\xbe\xef",
        9223372036854775807,
        7,
        -5,
        4294967295,
        {"a": [1]},
        {"b": None},
        1.5,
        2.25,
        dt.date(2024, 2, 29),
        dt.datetime(2024, 2, 29, 12, 30, 0, 250000),  # noqa: DTZ001 – a timestamp without time zone
        dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC),
        Decimal("1.10"),
        uuid.UUID("6f2ec1de-2ad8-4d2c-9d5c-2a2b3c4d5e6f"),
        "text",
        None,
        "",
    ]


async def test_what_python_cannot_hold_comes_back_as_text(wire: Wire) -> None:
    assert await rows(
        wire, "SELECT 'infinity'::timestamptz, '0044-03-15 BC'::date, '[0:1]={1,2}'::int[], '24:00'::time, '1'::bit"
    ) == [("infinity", "0044-03-15 BC", "[0:1]={1,2}", "24:00:00", "1")]
    assert (await rows(wire, "SELECT 'NaN'::numeric::text, 'NaN'::float8"))[0][0] == "NaN"
    await send(wire, "SET datestyle = 'SQL, DMY'")
    assert await rows(wire, "SELECT '2024-02-29'::date") == [("29/02/2024",)]


@pytest.mark.parametrize(
    "value",
    [
        "'12:30:00.25'::time",
        "'{}'::int[]",
        "'{1,NULL,-3}'::int[]",
        "'{{1,2},{3,4}}'::bigint[]",
        "'{1.50,NaN}'::numeric[]",
        "ARRAY['a', '', NULL, 'NULL', 'x,y', '{z}', 'with \"quotes\"', E'back\\\\slash', 'a b', E'two\\nlines']",
        "ARRAY['one', 'two']::varchar[]",
        "'{t,f}'::bool[]",
        "'{2024-02-29}'::date[]",
        "'{6f2ec1de-2ad8-4d2c-9d5c-2a2b3c4d5e6f}'::uuid[]",
        "'0'::interval",
        "'1 year 2 months -3 days 04:05:06.5'::interval",
        "'-1 mons +4 days -00:00:01'::interval",
        "ARRAY['1 day'::interval, '36:00:00']",
    ],
)
async def test_a_value_is_the_same_as_over_the_extended_protocol(value: str, wire: Wire) -> None:
    prepared = await wire.fetchval(f"SELECT {value}")
    ((simple,),) = await rows(wire, f"SELECT {value}")
    assert repr(simple) == repr(prepared)


@pytest.mark.parametrize("nothing", ["", "   \n", "-- a comment", "/* one */ -- two\n", ";", " ; ;"])
async def test_a_string_of_nothing_is_no_error(nothing: str, wire: Wire) -> None:
    assert await send(wire, nothing) == []
    assert await wire.fetchval("SELECT 1") == 1


async def test_comments_around_a_statement_do_not_matter(wire: Wire) -> None:
    assert await rows(wire, "-- it's ; here\nSELECT 1 /* ; */; -- the end") == [(1,)]


async def test_a_row_without_columns_is_a_row(wire: Wire) -> None:
    assert await rows(wire, "SELECT FROM generate_series(1, 3)") == [(), (), ()]


@pytest.mark.parametrize("times", [1, 3])
async def test_large_results_arrive_whole(times: int, wire: Wire) -> None:
    for _ in range(times):
        numbers, texts = await send(
            wire,
            "SELECT g, 'é' || g FROM generate_series(1, 60000) g; "
            "SELECT repeat('ü', 500000), g FROM generate_series(1, 3) g",
        )
        assert len(numbers.rows) == 60000
        assert numbers.rows[-1] == (60000, "é60000")
        assert [(len(text), number) for text, number in texts.rows] == [(500000, 1), (500000, 2), (500000, 3)]
        assert set(texts.rows[0][0]) == {"ü"}


async def test_messages_that_arrive_byte_by_byte_are_read_all_the_same(
    settings: MakeSettings, database: Database
) -> None:
    """Through a proxy that cuts the stream into crumbs, so that no message header arrives whole."""
    address = url.database(settings())
    arguments = dict(address.arguments)

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, crumb: int) -> None:
        while data := await source.read(crumb):
            sink.write(data)
            await sink.drain()
            await asyncio.sleep(0)
        sink.close()

    async def proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = str(arguments["host"]), arguments.get("port") or 5432
        if host.startswith("/"):
            server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            server = await asyncio.open_connection(host, int(str(port)))
        await asyncio.gather(pipe(reader, server[1], 4096), pipe(server[0], writer, 3))

    async with await asyncio.start_server(proxied, "127.0.0.1") as proxy:
        port = proxy.sockets[0].getsockname()[1]
        opened = await asyncpg.connect(**{**arguments, "host": "127.0.0.1", "port": port, "ssl": False})
        try:
            results = await send(opened, "SELECT g, repeat('x', g) FROM generate_series(1, 100) g; SELECT NULL, 'end'")
            assert results[0].rows == [(g, "x" * g) for g in range(1, 101)]
            assert results[1].rows == [(None, "end")]
            assert await opened.fetchval("SELECT $1::int", 5) == 5
        finally:
            await opened.close()


async def test_an_error_leaves_the_results_of_what_came_before_it(wire: Wire) -> None:
    results: list[ResultSet] = []
    with pytest.raises(asyncpg.DivisionByZeroError):
        await send(wire, "SELECT 1; SELECT 2, 'two'; SELECT 1/0; SELECT 3", results)
    assert [result.rows for result in results] == [[(1,)], [(2, "two")]]
    assert await rows(wire, "SELECT 4") == [(4,)]


async def test_several_statements_are_one_transaction(wire: Wire, database: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await send(wire, "CREATE TABLE gone (id int); SELECT 1/0")
    assert database.value("SELECT to_regclass('gone')") is None


async def test_copy_from_stdin_fails_instead_of_hanging(wire: Wire) -> None:
    await send(wire, "CREATE TEMP TABLE t (a int)")
    with pytest.raises(asyncpg.QueryCanceledError, match="COPY FROM STDIN carries no data here"):
        await asyncio.wait_for(send(wire, "COPY t FROM STDIN; SELECT 1"), 5)
    assert await rows(wire, "SELECT count(*) FROM t") == [(0,)]


async def test_copy_to_stdout_does_not_hang(wire: Wire) -> None:
    try:
        await asyncio.wait_for(send(wire, "COPY (SELECT 1) TO STDOUT"), 5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return
    assert await rows(wire, "SELECT 1") == [(1,)]


async def test_the_connection_speaks_the_extended_protocol_afterwards(wire: Wire) -> None:
    for number in range(5):
        assert await rows(wire, f"SELECT {number}") == [(number,)]
        assert await wire.fetchval("SELECT $1::int + 1", number) == number + 1
    async with wire.transaction():
        assert await rows(wire, "SELECT 1") == [(1,)]
        assert [row[0] async for row in wire.cursor("SELECT generate_series(1, 3)")] == [1, 2, 3]
        assert await rows(wire, "SELECT 2") == [(2,)]


async def test_a_statement_that_is_cancelled_leaves_a_usable_connection(wire: Wire) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(send(wire, "SELECT pg_sleep(30)"), 0.2)
    assert await rows(wire, "SELECT 1") == [(1,)]


async def test_notices_and_warnings_do_not_disturb_the_rows(wire: Wire) -> None:
    assert await rows(
        wire,
        "DO $$BEGIN FOR i IN 1..50 LOOP RAISE NOTICE 'n %', i; END LOOP; END$$; "
        "SET client_min_messages = debug1; SELECT 1",
    ) == [(1,)]


async def test_notifications_that_arrive_between_the_rows_reach_their_listener(wire: Wire) -> None:
    heard: list[object] = []
    await wire.add_listener("news", lambda *news: heard.append(news[-1]))
    assert await rows(wire, "NOTIFY news, 'hello'; SELECT 1") == [(1,)]
    assert await rows(wire, "SELECT 2") == [(2,)]
    assert heard == ["hello"]
    await wire.remove_listener("news", lambda *_: None)
    await wire.reset()


NASTY = [
    "it's",
    "''",
    "\\",
    "\\'",
    "'; DROP TABLE x; --",
    "\\n",
    "E'\\''",
    "$$",
    "%s :name {x}",
    "größer 漢字 🐘",
    "a\tb\nc\r",
    '"',
    "\\x41",
    "",
]


@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_strings_survive_the_way_into_sql_and_back(conforming: str, wire: Wire) -> None:
    await send(
        wire,
        f"SET backslash_quote = off; SET escape_string_warning = off; SET standard_conforming_strings = {conforming}",
    )
    for text in NASTY:
        assert await rows(wire, f"SELECT {literal(text)}") == [(text,)]
    assert await rows(wire, f"SELECT array_to_json({literal(NASTY)})::text") == [
        (json.dumps(NASTY, ensure_ascii=False, separators=(",", ":")),)
    ]


async def test_what_text_cannot_hold_is_left_out_or_replaced(wire: Wire) -> None:
    assert await rows(wire, f"SELECT {literal('a' + chr(0) + 'b')}, {literal('x' + chr(0xD800))}") == [("ab", "x?")]


async def test_other_values_survive_too(wire: Wire) -> None:
    now = dt.datetime(2024, 2, 29, 12, 30, 0, 123456, tzinfo=dt.UTC)
    some = uuid.uuid4()
    assert await rows(
        wire, f"SELECT {literal(now)}, {literal(some)}, {literal(None)}, {literal(-3)}, {literal(True)}"
    ) == [(now, some, None, -3, True)]
    assert await rows(wire, f"SELECT {literal(())}, {literal(('a', None))}::text") == [([], "{a,NULL}")]
    with pytest.raises(TypeError, match="object"):
        literal(object())
