"""How a pooler hands out backends: for a session, or for each transaction anew."""

import asyncio

from app.database import connection
from app.database.connection import Session
from app.database.url import Database
from app.errors import DatabaseUnavailable
from app.report import PoolMode

_PID = "SELECT pg_backend_pid()"
_TIMEOUT_S = 3
_LOOKS = 4
"""In a busy pool the same backend may come back by chance; so often it does not."""


async def mode(idle: Session, database: Database) -> PoolMode | None:
    """The mode of the pooler that `idle`, a session with no transaction open, goes through.

    In session mode a backend belongs to its client for as long as that is connected. In transaction mode another
    client's transaction may get the backend that `idle` had a moment ago, and `idle` another one instead. None where
    that cannot be found out, for want of another connection; `idle` may then be of no use any more.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S), connection.session(database, patient=False) as other:
            return await _compared(idle, other)
    except (DatabaseUnavailable, TimeoutError):
        return None


async def _compared(idle: Session, other: Session) -> PoolMode:
    ((own,),) = await idle.execute(_PID)
    for _ in range(_LOOKS):
        # Until the next look, this transaction keeps the backend that it has got.
        ((taken,),) = await other.execute(f"ROLLBACK; BEGIN; {_PID}")
        if taken == own:
            return "transaction"
        ((now,),) = await idle.execute(_PID)
        if now != own:
            return "transaction"
    await other.execute("ROLLBACK")
    return "session"
