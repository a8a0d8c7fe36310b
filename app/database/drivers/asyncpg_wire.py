"""asyncpg's connection, as the fence speaks over it: each message of statements takes one round trip."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, override

import asyncpg
from sqlalchemy.util import await_only

from app.database import connection, driver_error, simple_query
from app.database.simple_query import ResultSet
from app.database.wire import LAST, Wire


class AsyncpgWire(Wire):
    """A wire of asyncpg's."""

    tells_all = True

    def __init__(self, opened: connection.Connection) -> None:
        self.opened = opened

    @property
    @override
    def is_closed(self) -> bool:
        return self.opened.is_closed()

    @property
    @override
    def is_in_transaction(self) -> bool:
        return self.opened.is_in_transaction()

    @property
    @override
    def pid(self) -> int:
        return int(self.opened.get_server_pid())

    @override
    def setting(self, name: str) -> str | None:
        return getattr(self.opened.get_settings(), name, None)

    @override
    async def send(self, sql: Sequence[str], wanted: Sequence[int] = LAST) -> list[ResultSet]:
        results = await simple_query.send(self.opened, "; ".join(sql))
        return [results[position] for position in wanted]

    @override
    async def is_one_statement(self, sql: str) -> bool:
        try:
            await self.opened.prepare(sql, name="")
        except asyncpg.PostgresSyntaxError as error:
            # It has been read without an error, then; only the message, in the server's language, would say it too.
            if driver_error.place(error) == "exec_parse_message":
                return False
            raise
        return True

    @override
    def waits_for[Result](self, work: Coroutine[Any, Any, Result]) -> Result:
        return await_only(work)

    @override
    def cutter(self) -> Callable[[], None]:
        return connection.cutter(self.opened)
