"""A TCP proxy in front of a test's PostgreSQL: a network that can be slow, silent, cut, or not there at all."""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.conversation import Conversation
from tests.servers import Database

type Address = tuple[socket.AddressFamily, Any]

_PATIENCE_S = 10
_CHUNK = 1 << 16
_CHUNKS_UNDERWAY = 256


class Proxy:
    """What happens to the connections that go through; every method may be called from any thread.

    `cut` and `mute` take the connections whose application_name matches a regular expression; with `which`, only
    that one of them, counted from 0 in the order they came, or backwards from -1.
    """

    database: Database
    """The same database through the proxy."""
    latency_s: float = 0.0
    """Added in each direction to whatever arrives from now on."""
    questions: Counter[str]
    """What clients have asked and wait to be answered, each a round trip, by their application_name: "" without one."""
    logins: Counter[str]
    """How often clients have begun a session, likewise."""
    most_at_once: int
    """How many connections clients have had open at the same time, at most."""

    def __init__(self, database: Database) -> None:
        self.questions, self.logins = Counter(), Counter()
        self.most_at_once = 0
        self._upstream = _place(database)
        self._connections: list[_Connection] = []
        self._listener: socket.socket | None = None
        self._swallows = False
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp proxy", daemon=True)
        self._thread.start()
        self.accept()
        through = database.address.set(host="127.0.0.1", port=self._port).difference_update_query(["host", "port"])
        # Inside TLS nobody could read the names.
        self.database = Database(database.server, through.update_query_dict({"sslmode": "disable"}))

    def refuse(self) -> None:
        """Listen no more: new connections are refused, and open ones go on."""
        self._do(self._stop_listening(keep_the_port=True))

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    def swallow(self, on: bool = True) -> None:
        """Accept new connections and forward nothing; one that was swallowed stays so."""
        self._swallows = on

    def cut(self, name: str = "", which: int | None = None) -> int:
        """Reset matching connections, towards both sides; how many there were."""
        return self._do(self._end(self._matching(name, which)))

    def mute(self, name: str = "", which: int | None = None) -> int:
        """Forward nothing more on matching connections, not even that one side ends; how many there were."""
        found = self._matching(name, which)
        for connection in found:
            connection.muted = True
        return len(found)

    def names(self) -> list[str]:
        """The application_names of the connections that clients have open, in the order they came.

        Empty for one that has not said it: that was swallowed, or that only asks to cancel a statement.
        """
        return [connection.name for connection in self._open()]

    def forget(self) -> None:
        """Count from nothing again."""
        self.questions.clear()
        self.logins.clear()
        self.most_at_once = 0

    def close(self) -> None:
        """End every connection, and the thread."""
        self._do(self._stop_listening())
        self._do(self._end(list(self._connections)))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_S)
        self._loop.close()

    def _do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    def _open(self) -> list["_Connection"]:
        return [connection for connection in list(self._connections) if connection.has_a_client]

    def _matching(self, name: str, which: int | None) -> list["_Connection"]:
        found = [connection for connection in self._open() if re.search(name, connection.name)]
        if which is None:
            return found
        return [found[which]] if -len(found) <= which < len(found) else []

    async def _listen(self) -> None:
        await self._stop_listening()
        self._listener = _bound(self._port)
        self._listener.listen(100)
        self._port = self._listener.getsockname()[1]
        # Not sock_accept: cancelled in the moment of an arrival it would lose the connection, unclosed.
        self._loop.add_reader(self._listener, self._take_connection, self._listener)

    async def _stop_listening(self, *, keep_the_port: bool = False) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        # Bound and not listening: whoever comes is refused, and nobody else gets the port.
        self._listener = _bound(self._port) if keep_the_port else None

    def _take_connection(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # gone again before it was taken
            return
        connection = _Connection(self, client)
        self._connections.append(connection)
        self.most_at_once = max(self.most_at_once, len(self._open()))
        upstream = None if self._swallows else self._upstream
        connection.task = self._loop.create_task(self._serve(connection, upstream))

    async def _serve(self, connection: "_Connection", upstream: Address | None) -> None:
        try:
            await connection.serve(upstream)
        finally:
            self._connections.remove(connection)

    async def _end(self, connections: list["_Connection"]) -> int:
        tasks = [connection.task for connection in connections if connection.task is not None]
        for connection in connections:
            connection.resets = True
        for task in tasks:
            await _cancelled(task)
        for connection in connections:
            connection.close()  # a task that was cancelled before its first step has closed nothing
        return len(tasks)


class _Connection:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.muted = False
        self.resets = False
        self.has_a_client = True
        self.task: asyncio.Task[None] | None = None
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._heard = Conversation(proxy.logins, proxy.questions)

    @property
    def name(self) -> str:
        """The client's application_name, once it has said it."""
        return self._heard.name

    async def serve(self, upstream: Address | None) -> None:
        """Forward until one side ends; without an upstream, listen until the client does."""
        try:
            _prepare(self._client)
            if upstream is None:
                while await _received(self._client):
                    pass
            else:
                await self._forward(upstream)
        finally:
            self.close()

    def close(self) -> None:
        """Close both sides, if they are open."""
        self.has_a_client = False
        self._close(self._client)
        self._close(self._server)

    async def _forward(self, upstream: Address) -> None:
        family, address = upstream
        self._server = server = socket.socket(family)
        _prepare(server)
        try:
            await asyncio.get_running_loop().sock_connect(server, address)
        except OSError:
            self.resets = True  # the nearest thing to a refusal that is left
            return
        up = asyncio.create_task(self._carry(self._client, server))
        down = asyncio.create_task(self._carry(server, self._client))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if self.muted:  # one side has left, and the other is not to know
                self.has_a_client = not up.done()
                await asyncio.wait({up, down})
        finally:
            await _cancelled(up)
            await _cancelled(down)

    async def _carry(self, source: socket.socket, target: socket.socket) -> None:
        """Carry what arrives in one direction, each chunk after the latency of its arrival."""
        loop = asyncio.get_running_loop()
        underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDERWAY)

        async def deliver() -> None:
            data = b"something"
            while data:
                due, data = await underway.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not self.muted:
                    await loop.sock_sendall(target, data)

        delivery = asyncio.create_task(deliver())
        try:
            data = b"something"
            while data and not delivery.done():
                data = await _received(source)
                if source is self._client:
                    self._heard.hear(data)
                await underway.put((loop.time() + self._proxy.latency_s, data))
            with contextlib.suppress(OSError):  # the target has gone first
                await delivery
        finally:
            await _cancelled(delivery)

    def _close(self, opened: socket.socket | None) -> None:
        if opened is None or opened.fileno() < 0:
            return
        if self.resets and opened.family != socket.AF_UNIX:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.close()


def _prepare(opened: socket.socket) -> None:
    opened.setblocking(False)
    if opened.family != socket.AF_UNIX:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no latency but what was asked for


async def _received(source: socket.socket) -> bytes:
    """What arrived; nothing at the end, however it came."""
    try:
        return await asyncio.get_running_loop().sock_recv(source, _CHUNK)
    except OSError:
        return b""


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait for it."""
    task.cancel()
    await asyncio.wait({task}, timeout=_PATIENCE_S)
    with contextlib.suppress(asyncio.CancelledError, OSError):
        task.result()


def _bound(port: int) -> socket.socket:
    """A socket that has the port; with 0, one that was free."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setblocking(False)
    opened.bind(("127.0.0.1", port))
    return opened


def _place(database: Database) -> Address:
    """Where the database listens: a folder with a Unix socket, or a host."""
    query = database.address.query
    host = database.address.host or str(query.get("host", "/var/run/postgresql"))
    port = database.address.port or int(str(query.get("port", 5432)))
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    ((family, *_, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return family, address


@contextmanager
def tcp_proxy(database: Database) -> Iterator[Proxy]:
    """A proxy in front of the database, which ends with all its connections."""
    proxy = Proxy(database)
    try:
        yield proxy
    finally:
        proxy.close()
