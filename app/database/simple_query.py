"""Rows over PostgreSQL's simple query protocol, which asyncpg sends but whose rows it throws away.

The simple protocol carries a whole string of statements in one round trip, keeps no portal (and so no
snapshot) behind, and needs no prepared statement, which a transaction pooler would lose. asyncpg's
`Connection.execute` speaks it and drops every row, so for the length of one query a listener stands between
the transport and asyncpg's protocol, reads along, and hands every byte on.

Source of the message formats: PostgreSQL manual, "Message Formats" (54.7 in version 18).
"""

import asyncio
import datetime as dt
import decimal
import functools
import json
import re
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import asyncpg

Value = Any
"""What a column holds: the Python value of its type, or PostgreSQL's text for a type not listed here."""


def _bytea(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("\\x"))


def _interval(text: str) -> dt.timedelta:
    """As asyncpg has it: a month is 30 days, a year 365."""
    found = _INTERVAL.fullmatch(text)
    if found is None or not text:
        raise ValueError("an interval in another style than `postgres`")
    years, months, days, hours, minutes = (int(found[part] or 0) for part in ("years", "months", "days", "h", "m"))
    clock = dt.timedelta(hours=hours, minutes=minutes, seconds=float(found["s"] or 0))
    return dt.timedelta(days=years * 365 + months * 30 + days) + (-clock if found["sign"] == "-" else clock)


_INTERVAL = re.compile(
    r"(?:(?P<years>[+-]?\d+) years? ?)?(?:(?P<months>[+-]?\d+) mons? ?)?(?:(?P<days>[+-]?\d+) days? ?)?"
    r"(?:(?P<sign>[+-]?)(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?))?"
)
# By type OID (pg_type.dat, stable since these types exist). The text format is PostgreSQL's ISO output.
_DECODERS: dict[int, Callable[[str], Value]] = {
    16: lambda text: text == "t",
    17: _bytea,
    20: int,
    21: int,
    23: int,
    26: int,
    114: json.loads,
    700: float,
    701: float,
    1082: dt.date.fromisoformat,
    1083: dt.time.fromisoformat,
    1114: dt.datetime.fromisoformat,
    1184: dt.datetime.fromisoformat,
    1186: _interval,
    1700: decimal.Decimal,
    2950: uuid.UUID,
    3802: json.loads,
}
_ELEMENTS = {
    199: 114,
    1000: 16,
    1001: 17,
    1005: 21,
    1007: 23,
    1009: 25,
    1015: 1043,
    1016: 20,
    1021: 700,
    1022: 701,
    1028: 26,
    1115: 1114,
    1182: 1082,
    1183: 1083,
    1185: 1184,
    1187: 1186,
    1231: 1700,
    2951: 2950,
    3807: 3802,
}
"""By the OID of an array's type that of its elements'."""
_PART_OF_AN_ARRAY = re.compile(
    r'(?P<opens>\{)|(?P<closes>\})|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^{},"]+)', re.DOTALL
)


_HEAD = 5
"""Bytes before a message's body: a type byte, and an Int32 length that counts itself."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result, as RowDescription tells it."""

    name: str
    type_oid: int


@dataclass(slots=True)
class ResultSet:
    """What one statement of the string returned; `status` is its command tag, such as `UPDATE 3`."""

    columns: tuple[Column, ...] = ()
    rows: list[tuple[Value, ...]] = field(default_factory=list)
    status: str = ""


class _Listener(asyncio.Protocol):
    """Stands in for asyncpg's protocol while one simple query is under way, and keeps the rows."""

    def __init__(self, transport: asyncio.WriteTransport, protocol: asyncio.Protocol, results: list[ResultSet]) -> None:
        self.results = results
        self.saw_nothing_to_do = False
        self._transport = transport
        self._protocol = protocol
        self._unread = bytearray()
        self._current = ResultSet()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._read_messages()
        # asyncpg comes last: with ReadyForQuery it wakes the caller, who then finds all rows in place.
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _read_messages(self) -> None:
        start = 0
        while len(self._unread) - start >= _HEAD:
            kind = self._unread[start]
            end = start + 1 + cast("int", struct.unpack_from("!i", self._unread, start + 1)[0])
            if len(self._unread) < end:
                break
            self._read_message(kind, bytes(self._unread[start + _HEAD : end]))
            start = end
        del self._unread[:start]

    def _read_message(self, kind: int, body: bytes) -> None:
        match chr(kind):
            case "T":  # RowDescription
                self._current.columns = _columns(body)
            case "D":  # DataRow
                self._current.rows.append(_row(body, self._current.columns))
            case "C":  # CommandComplete
                self._current.status = body[:-1].decode()
                self.results.append(self._current)
                self._current = ResultSet()
            case "I":  # EmptyQueryResponse
                self.saw_nothing_to_do = True
            case "G":  # CopyInResponse: no data will come, and the server would wait for it for ever
                reason = b"COPY FROM STDIN carries no data here; use INSERT\0"
                self._transport.write(b"f" + struct.pack("!i", 4 + len(reason)) + reason)


@functools.lru_cache(maxsize=64)  # a run asks the same of every revision
def _columns(body: bytes) -> tuple[Column, ...]:
    (count,) = struct.unpack_from("!h", body)
    columns, at = [], 2
    for _ in range(count):
        end = body.index(b"\0", at)
        # After the name: table OID (4), attribute number (2), type OID (4), size (2), modifier (4), format (2).
        (type_oid,) = struct.unpack_from("!I", body, end + 7)
        columns.append(Column(body[at:end].decode(), type_oid))
        at = end + 19
    return tuple(columns)


def _row(body: bytes, columns: tuple[Column, ...]) -> tuple[Value, ...]:
    values: list[Value] = []
    at = 2
    for column in columns:
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length < 0:
            values.append(None)
            continue
        text = body[at : at + length].decode()
        at += length
        values.append(_decoded(text, column.type_oid))
    return tuple(values)


def _decoded(text: str, type_oid: int) -> Value:
    if type_oid in _ELEMENTS and text.startswith("{"):  # else it says with which numbers its subscripts begin
        return _array(text, _ELEMENTS[type_oid])
    decode = _DECODERS.get(type_oid)
    if decode is None:
        return text
    try:
        return decode(text)
    except ValueError:  # 'infinity', a year before 1, a DateStyle that is not ISO: the text is the honest answer
        return text


def _array(text: str, type_oid: int) -> list[Value]:
    """The elements of an array, in lists within lists where it has several dimensions.

    Source: PostgreSQL manual, "Array Input and Output Syntax".
    """
    open_ones: list[list[Value]] = [[]]
    for part in _PART_OF_AN_ARRAY.finditer(text):
        match part.lastgroup:
            case "opens":
                open_ones.append([])
            case "closes":
                closed = open_ones.pop()
                open_ones[-1].append(closed)
            case "quoted":
                open_ones[-1].append(_decoded(re.sub(r"\\(.)", r"\1", part["quoted"], flags=re.DOTALL), type_oid))
            case _ if part["bare"].upper() == "NULL":
                open_ones[-1].append(None)
            case _:
                open_ones[-1].append(_decoded(part["bare"], type_oid))
    found: list[Value] = open_ones[0][0]
    return found


async def send(
    connection: "asyncpg.Connection[Any]", sql: str, results: list[ResultSet] | None = None
) -> list[ResultSet]:
    """Send `sql`, one or many statements without parameters, in one round trip; a result for each.

    Outside of a transaction PostgreSQL runs the string as one implicit transaction.

    Args:
        connection: An open connection with no operation under way.
        sql: The statements.
        results: A list to fill, for a caller who wants what came before an error.

    Raises:
        asyncpg.PostgresError: A statement failed; those after it did not run.
    """
    # asyncpg has no public way to these two; its version is pinned below the next minor release.
    private: Any = connection
    transport, protocol = private._transport, private._protocol
    listener = _Listener(transport, protocol, [] if results is None else results)
    if transport is not None and not transport.is_closing():
        transport.set_protocol(listener)
    try:
        await connection.execute(sql)
    except AttributeError:
        # For want of a command tag asyncpg stumbles over a string of nothing but comments or white space.
        if not listener.saw_nothing_to_do:
            raise
    finally:
        if transport is not None and transport.get_protocol() is listener:
            transport.set_protocol(protocol)
    return listener.results
