"""Dates and times as asyncpg sends them, but for its infinities.

asyncpg takes the first and the last date and time that Python has for PostgreSQL's -infinity and infinity. In a
revision they are what they say, as with every other driver: 9999-12-31 is a day.

Source of the numbers: asyncpg's documentation of `Connection.set_type_codec`, format "tuple".
"""

import datetime as dt

from app.database.connection import Connection

_FIRST_DAY = dt.date(2000, 1, 1).toordinal()
_FIRST_TIME = dt.datetime(2000, 1, 1)  # noqa: DTZ001 – of PostgreSQL's timestamps without a time zone
_MICROSECOND = dt.timedelta(microseconds=1)

type _Told = tuple[int]
"""Days since 2000, or microseconds."""


async def say_what_they_say(opened: Connection) -> None:
    """Set it for a connection; nothing is sent."""
    for name, encode, decode in (
        ("date", _from_day, _to_day),
        ("timestamp", _from_time, _to_time),
        ("timestamptz", _from_moment, _to_moment),
    ):
        await opened.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format="tuple")


def _from_day(day: dt.date) -> _Told:
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


def _from_moment(moment: dt.date) -> _Told:
    return _from_time(_with_time(moment).astimezone(dt.UTC).replace(tzinfo=None))


def _to_moment(told: _Told) -> dt.datetime:
    return _to_time(told).replace(tzinfo=dt.UTC)


def _with_time(day: dt.date) -> dt.datetime:
    return day if isinstance(day, dt.datetime) else dt.datetime(day.year, day.month, day.day)  # noqa: DTZ001 – as a date has none
