"""How a working connection is opened, whichever driver it belongs to, and what SQLAlchemy's dialect learns by that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import URL

from app.database.fence import Fence
from app.database.fenced import Fenced, Modes
from app.database.url import Database
from app.database.wire import Wire

_FACTS = (
    "SELECT current_schema(), current_setting('default_transaction_isolation'), "
    "current_setting('standard_conforming_strings'), (SELECT array_to_json(ARRAY[oid, typarray]::bigint[])::text "
    "FROM pg_type WHERE typname = 'hstore' LIMIT 1)"
)
"""Asked in one round trip, where SQLAlchemy's own questions take ten, in a transaction of theirs."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a working connection is opened."""

    database: Database
    """Where to."""
    fence: Fence
    """What stands around its transactions."""
    fencing: Callable[[Wire, Fence, Modes], Fenced]
    """Makes what fences it."""
    application_name: str
    session: str
    """What is set for the session, as statements, each with its semicolon."""
    before: Callable[[], None]
    """Is called before it is opened, and may refuse that."""
    after: Callable[[Wire], None]
    """Is handed what was opened."""

    @property
    def question(self) -> str:
        """What is sent first; the answer is for `Told.learn`."""
        return f"{self.session}{_FACTS}"

    def url(self, driver: str) -> URL:
        """Where to, for a revision that asks its engine; of several hosts the first, and never the password."""
        (host, port), *_ = self.database.places
        place: dict[str, Any] = {"host": host, "port": port}
        if host is not None and host.startswith("/"):  # a socket, which a URL has no place for
            place = {"query": {name: str(value) for name, value in place.items() if value is not None}}
        return URL.create(f"postgresql+{driver}", self.database.user, database=self.database.name, **place)


class Told:
    """The part of a dialect of SQLAlchemy's that knows without asking; to be mixed into one of PostgreSQL's."""

    def learn(self, version: tuple[int, int], answer: tuple[Any, ...]) -> None:
        """Take in the server's version, such as (18, 1), and the answer to the question of an `Opening`."""
        self._version = version
        self._schema, self._isolation_level, self._strings, self.hstore = answer

    def _get_server_version_info(self, connection: object) -> tuple[int, ...]:  # noqa: ARG002 – SQLAlchemy's hook, as the rest
        return self._version

    def _get_default_schema_name(self, connection: object) -> str:  # noqa: ARG002
        return cast("str", self._schema)  # None where the search path finds none, as SQLAlchemy's own has it

    def get_default_isolation_level(self, dbapi_conn: object) -> Any:  # noqa: ANN401, ARG002 – SQLAlchemy lists the levels
        """The session's own, as SQLAlchemy writes it."""
        return self._isolation_level.upper()

    def _set_backslash_escapes(self, connection: object) -> None:  # noqa: ARG002
        self._backslash_escapes = self._strings == "off"
