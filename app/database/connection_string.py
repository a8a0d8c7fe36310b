"""A connection string in its parts, as SQLAlchemy's `make_url` reads it, without the time that its loading takes.

The grammar is the same, and a test holds the two together: one string must not mean two databases.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

_GRAMMAR = re.compile(
    r"(?P<drivername>[\w+]+)://"
    r"(?:(?P<username>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<address>[^/?]+)\]|(?P<name>[^/:?]+))?"
    r"(?::(?P<port>[^/?]*))?"
    r"(?:/(?P<database>[^?]*))?"
    r"(?:\?(?P<query>.*))?"
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands in a connection string, %-decoded except for the host."""

    drivername: str
    username: str | None
    password: str | None = field(repr=False)
    host: str | None
    port: int | None
    database: str | None
    query: dict[str, str] = field(repr=False)
    """Its parameters; the last one counts where one is repeated, as for libpq."""


def parts(text: str) -> Parts:
    """Take a connection string apart.

    Raises:
        ValueError: It is not of the form driver://user:password@host:port/database?parameters.
    """
    found = _GRAMMAR.match(text)
    if found is None:
        raise ValueError("not a connection string")
    return Parts(
        drivername=found["drivername"],
        username=_decoded(found["username"]),
        password=_decoded(found["password"]),
        host=found["name"] or found["address"],
        port=None if found["port"] is None else int(found["port"]),
        database=_decoded(found["database"]),
        query=dict(parse_qsl(found["query"] or "")),
    )


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)
