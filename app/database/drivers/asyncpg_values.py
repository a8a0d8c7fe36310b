"""Values as revisions know them from psycopg2, where asyncpg has others of its own and nobody would be told.

Source of the numbers: asyncpg's documentation of `Connection.set_type_codec`, format "tuple".
"""

import datetime as dt
import zoneinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from app.database.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_DAY = dt.date(2000, 1, 1).toordinal()
_FIRST_TIME = dt.datetime(2000, 1, 1)  # noqa: DTZ001 – of PostgreSQL's timestamps without a time zone
_MICROSECOND = dt.timedelta(microseconds=1)
_UTC = frozenset(("UTC", "Etc/UTC", "GMT", "Etc/GMT"))
"""What a time zone without offset is called, also where Python finds no time zones: a small container has none."""

_CHAR = 18

type _Told = tuple[int]
"""Days since 2000, or microseconds."""


async def say_what_they_say(opened: Connection) -> None:
    """Set it for a connection; nothing is sent.

    - The first and the last date and time that Python has are those, and not PostgreSQL's infinities: 9999-12-31 is a
      day.
    - What has no time zone is taken for a time of the session's, not of this process's, and a moment comes as the
      session shows it.
    - A float is the number that is written, and a "char" is a string, as in `contype == 'p'`.
    """

    def zone() -> dt.tzinfo | None:
        return _zone(getattr(opened.get_settings(), "TimeZone", ""))

    def from_moment(moment: dt.date) -> _Told:
        return _from_moment(moment, zone())

    def to_moment(told: _Told) -> dt.datetime:
        return _to_moment(told, zone())

    codecs: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any], str], ...] = (
        ("date", _from_day, _to_day, "tuple"),
        ("timestamp", _from_time, _to_time, "tuple"),
        ("timestamptz", from_moment, to_moment, "tuple"),
        ("numeric", str, Decimal, "text"),
        ("float4", str, float, "text"),
    )
    for name, encode, decode, form in codecs:
        await opened.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format=form)
    # By its OID: the name "char" asyncpg takes for that of another type, character.
    opened.get_settings().add_python_codec(_CHAR, '"char"', "pg_catalog", [], "scalar", str, str, "text")


def _from_day(day: dt.date) -> _Told:
    if isinstance(day, dt.datetime) and day.time() != dt.time.min:
        # psycopg2 sends it as a time, which is compared as one: `due < :now` is true for what is due today.
        raise ValueError(f"{day} has a time, and a date is expected")
    return (day.toordinal() - _FIRST_DAY,)


def _to_day(told: _Told) -> dt.date:
    match told[0]:
        case days if days == 2**31 - 1:
            return dt.date.max
        case days if days == -(2**31):
            return dt.date.min
        case days:
            return dt.date.fromordinal(days + _FIRST_DAY)


def _from_time(time: dt.date) -> _Told:
    return ((_with_time(time) - _FIRST_TIME) // _MICROSECOND,)


def _to_time(told: _Told) -> dt.datetime:
    match told[0]:
        case microseconds if microseconds == 2**63 - 1:
            return dt.datetime.max  # noqa: DTZ901 – a timestamp has no time zone
        case microseconds if microseconds == -(2**63):
            return dt.datetime.min  # noqa: DTZ901 – as above
        case microseconds:
            return _FIRST_TIME + microseconds * _MICROSECOND


def _from_moment(moment: dt.date, zone: dt.tzinfo | None) -> _Told:
    time = _with_time(moment)
    if time.tzinfo is None:
        if zone is None:
            raise ValueError(f"{time} has no time zone, and Python does not know the session's")
        time = time.replace(tzinfo=zone)
    return _from_time(time.astimezone(dt.UTC).replace(tzinfo=None))


def _to_moment(told: _Told, zone: dt.tzinfo | None) -> dt.datetime:
    moment = _to_time(told).replace(tzinfo=dt.UTC)
    if zone is None or zone is dt.UTC:
        return moment
    try:
        offset = moment.astimezone(zone).utcoffset()
        return moment.astimezone(dt.timezone(offset or dt.timedelta()))
    except OverflowError:  # the first day or the last one
        return moment


def _zone(name: str) -> dt.tzinfo | None:
    if name in _UTC:
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):  # one that PostgreSQL alone knows, such as <+03>-03
        return None


def _with_time(day: dt.date) -> dt.datetime:
    return day if isinstance(day, dt.datetime) else dt.datetime(day.year, day.month, day.day)  # noqa: DTZ001 – as a date has none
