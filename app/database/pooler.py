"""How a pooler hands out backends: for a session, or for each transaction anew."""

from app.database import connection
from app.database.connection import Session
from app.database.url import Database
from app.report import PoolMode

_PID = "SELECT pg_backend_pid()"
_LOOKS = 4
"""In a busy pool the same backend may come back by chance; so often it does not."""


async def mode(idle: Session, database: Database) -> PoolMode:
    """The mode of the pooler that `idle`, a session with no transaction open, goes through.

    In session mode a backend belongs to its client for as long as that is connected. In transaction mode another
    client's transaction may get the backend that `idle` had a moment ago, and `idle` another one instead.
    """
    ((own,),) = await idle.execute(_PID)
    async with connection.session(database) as other:
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
