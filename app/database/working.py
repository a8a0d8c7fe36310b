"""The engines that revisions run on, whose connections are fenced, and that commands run on which only read."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import asyncpg
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi, PGDialect_asyncpg

from app.database import backends, connection, fenced, simple_query
from app.database.fence import Fence
from app.database.url import Database

_STATEMENTS_KEPT = 10
"""Of those that SQLAlchemy has compiled. Hardly one of a history comes twice, and each is kept with its tables."""
_OWN_SESSION = "SET client_connection_check_interval = 1000; SET lock_timeout = 0; "
"""Where the session is ours alone, autocommit blocks are covered too. An index build waits for old transactions by
design and blocks nobody, so a timeout of the role's would only leave it INVALID."""


class Dialect(PGDialect_asyncpg):
    """SQLAlchemy's dialect, for a session that has told when it was opened what the dialect would ask it."""

    supports_statement_cache = True  # SQLAlchemy wants it said by each dialect anew
    FACTS = (
        "SELECT current_schema(), current_setting('default_transaction_isolation'), "
        "current_setting('standard_conforming_strings')"
    )
    """Asked in one round trip, where SQLAlchemy's own questions take ten, in a transaction of theirs."""

    def learn(self, opened: connection.Connection, facts: tuple[Any, ...]) -> None:
        """Take in the answer to FACTS."""
        version = opened.get_server_version()
        self._version = (version.major, version.micro)  # as `Session.server_version` has it
        self._schema, self._isolation_level, self._strings = facts

    def _get_server_version_info(self, connection: object) -> tuple[int, ...]:  # noqa: ARG002 – SQLAlchemy's hook, as the next three
        return self._version

    def _get_default_schema_name(self, connection: object) -> str:  # noqa: ARG002
        return cast("str", self._schema)  # None where the search path finds none, as SQLAlchemy's own has it

    def get_default_isolation_level(self, dbapi_conn: object) -> Any:  # noqa: ANN401, ARG002 – SQLAlchemy lists the levels
        """The session's own, as SQLAlchemy writes it."""
        return self._isolation_level.upper()

    def _set_backslash_escapes(self, connection: object) -> None:  # noqa: ARG002
        self._backslash_escapes = self._strings == "off"


registry.register("postgresql.fenced", __name__, Dialect.__name__)


def engine(
    database: Database,
    fence: Fence,
    *,
    run_id: UUID,
    on_open: Callable[[connection.Connection], None] = lambda _: None,
    dbapi: fenced.Dbapi | None = None,
    session: str = "",
) -> Engine:
    """An engine whose connections are fenced; each is opened when asked for, and closed after use.

    To be used in a greenlet of SQLAlchemy's, which is all that `sqlalchemy.ext.asyncio` would do here; and that brings
    the ORM, which costs a function 10 MB.

    Args:
        database: Where it is.
        fence: Stands around each transaction.
        run_id: The run that the connections are for.
        on_open: Is handed each connection, for a caller who may have to cut it.
        dbapi: Makes the connections, where they are to be special.
        session: Further statements for each session that is ours alone, each with its semicolon.
    """

    async def connect() -> connection.Connection:
        # A pooler would leave the run's name on the backend, for strangers to wear.
        name = backends.working_name(run_id) if fence.session_is_ours else connection.CONTROL
        opened = await connection.connect(database, application_name=name)
        on_open(opened)
        own = _OWN_SESSION + session if fence.session_is_ours else ""
        with fence.asking():
            results = await simple_query.send(opened, f"{own}{Dialect.FACTS}")
        dialect.learn(opened, results[-1].rows[0])
        return opened

    # Behind a pooler a prepared statement's name may be taken, or its statement gone: use the unnamed one.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    options = {} if fence.session_is_ours else unnamed
    module = dbapi or fenced.Dbapi(fence)
    made = create_engine(
        "postgresql+fenced://",
        module=module,
        creator=lambda: module.connect(async_creator_fn=connect, **options),
        poolclass=NullPool,
        pool_reset_on_return=None,  # closing does what is to be done, and nothing on a connection that was cut
        query_cache_size=_STATEMENTS_KEPT,
    )
    dialect = cast("Dialect", made.dialect)
    return made


def plain_engine(database: Database) -> Engine:
    """An engine for commands that only read: no fence, SQLAlchemy's own cursors. Likewise to be used in a greenlet."""

    async def connect() -> connection.Connection:
        return await connection.connect(database, application_name=connection.CONTROL)

    module: Any = AsyncAdapt_asyncpg_dbapi(asyncpg)  # type: ignore[no-untyped-call]  # SQLAlchemy's
    return create_engine(
        "postgresql+asyncpg://",
        module=module,
        creator=lambda: module.connect(async_creator_fn=connect),
        poolclass=NullPool,
    )
