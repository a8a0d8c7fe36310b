"""The engines that revisions run on, whose connections are fenced, and that commands run on which only read.

This is where the driver is chosen; what stands around it does not know which one it is.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.util import greenlet_spawn

from app.database import backends, connection
from app.database.drivers.opening import Opening
from app.database.fence import Fence
from app.database.fenced import Fenced, Modes
from app.database.session_settings import NONE, SessionSettings
from app.database.url import Database
from app.database.wire import Wire
from app.settings import Driver

_STATEMENTS_KEPT = 10
"""Of those that SQLAlchemy has compiled. Hardly one of a history comes twice, and each is kept with its tables."""
_OWN_SESSION = "SET client_connection_check_interval = 1000; SET lock_timeout = 0; "
"""Where the session is ours alone, autocommit blocks are covered too. An index build waits for old transactions by
design and blocks nobody, so a timeout of the role's would only leave it INVALID."""


def engine(
    database: Database,
    fence: Fence,
    *,
    run_id: UUID,
    driver: Driver = "asyncpg",
    before_open: Callable[[], None] = lambda: None,
    on_open: Callable[[Wire], None] = lambda _: None,
    fencing: Callable[[Wire, Fence, Modes], Fenced] = Fenced,
    session: str = "",
) -> Engine:
    """An engine whose connections are fenced; each is opened when asked for, and closed after use. See `use`.

    Args:
        database: Where it is.
        fence: Stands around each transaction.
        run_id: The run that the connections are for.
        driver: Whose they are.
        before_open: Is called before one is opened, and may refuse that.
        on_open: Is handed each of them, for a caller who may have to cut it.
        fencing: Makes what fences each of them, where that is to be special.
        session: Further statements for each session that is ours alone, each with its semicolon.
    """

    def before() -> None:
        fence.is_connected = False
        before_open()

    theirs = fence.session_settings.statement(local=not fence.session_is_ours)
    opening = Opening(
        database,
        fence,
        fencing,
        # A pooler would leave the run's name on the backend, for strangers to wear.
        application_name=backends.working_name(run_id) if fence.session_is_ours else connection.CONTROL,
        session="".join(
            [_OWN_SESSION + session if fence.session_is_ours else "", *(f"{statement}; " for statement in theirs)]
        ),
        before=before,
        after=on_open,
    )
    options = {
        "poolclass": NullPool,
        "pool_reset_on_return": None,  # closing does what is to be done, and nothing on a connection that was cut
        "query_cache_size": _STATEMENTS_KEPT,
    }
    if driver == "psycopg2":
        from app.database.drivers import psycopg2_connection  # an extra, and not everybody's

        return psycopg2_connection.engine(opening, **options)
    from app.database.drivers import asyncpg_connection  # not both

    return asyncpg_connection.engine(opening, **options)


def use(chosen: Engine, work: Callable[[Connection], None]) -> None:
    """Do some work on a connection of an engine, in this thread, in which no event loop may run.

    A driver that wants a loop gets one for that long, and SQLAlchemy's greenlet, which is all that
    `sqlalchemy.ext.asyncio` would do here; and that brings the ORM, which costs a function 10 MB.
    """

    def connects() -> None:
        with chosen.connect() as opened:
            fenced: Fenced | None = getattr(opened.connection.dbapi_connection, "fenced", None)  # not a plain one's
            try:
                work(opened)
            finally:
                if fenced is not None:
                    fenced.fence.is_connected = not fenced.wire.is_closed

    if chosen.dialect.is_async:
        asyncio.run(greenlet_spawn(connects))
    else:
        connects()


def plain_engine(database: Database, session_settings: SessionSettings = NONE) -> Engine:
    """An engine for commands that only read: no fence, SQLAlchemy's own cursors. To be used in a greenlet."""

    async def connect() -> connection.Connection:
        return await connection.connect(database, application_name=connection.CONTROL)

    module: Any = AsyncAdapt_asyncpg_dbapi(asyncpg)  # type: ignore[no-untyped-call]  # SQLAlchemy's
    made = create_engine(
        "postgresql+asyncpg://",
        module=module,
        creator=lambda: module.connect(async_creator_fn=connect),
        poolclass=NullPool,
    )

    @event.listens_for(made, "begin")
    def begin(begun: Connection) -> None:
        for statement in session_settings.statement():  # in each transaction, for there may be a pooler
            begun.exec_driver_sql(statement)

    return made
