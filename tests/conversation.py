"""What a client says to PostgreSQL, read along: how it logs in, and how often it waits for an answer."""

import struct
from collections import Counter

_NEGOTIATIONS = (80877103, 80877104)
"""SSLRequest and GSSENCRequest, which may come before the startup packet (PostgreSQL manual, "Message Formats")."""
_LONGEST_STARTUP_PACKET = 10_000
"""What PostgreSQL takes itself; what begins otherwise is not one, such as a TLS handshake."""

_ASKS = (b"Q", b"S", b"H")
"""Query and Sync, which ReadyForQuery answers; and Flush, by which asyncpg asks for the types of a statement."""


class Conversation:
    """One client's side of a connection, which it counts in the two counters by its application_name."""

    def __init__(self, logins: Counter[str], questions: Counter[str]) -> None:
        self.name = ""
        """The application_name; empty before it is known, and where there is none."""
        self._logins = logins
        self._questions = questions
        self._said: bytes | None = b""
        """What the client has said so far; None once it has logged in, or will not."""
        self._has_logged_in = False
        self._unread = b""
        """The beginning of a message of which the rest is still to come."""

    def hear(self, data: bytes) -> None:
        """Look for the application_name in the client's startup packet, and then for what it asks."""
        if self._said is None:
            self._count(data)
            return
        self._said += data
        while len(self._said) >= 8:
            length, code = struct.unpack_from("!ii", self._said)
            if code in _NEGOTIATIONS:
                self._said = self._said[8:]
            elif code >> 16 != 3 or not 8 <= length <= _LONGEST_STARTUP_PACKET:
                self._said = None
                return
            elif len(self._said) < length:
                return
            else:
                words = self._said[8:length].split(b"\0")
                self.name = (
                    dict(zip(words[::2], words[1::2], strict=False))
                    .get(b"application_name", b"")
                    .decode(errors="replace")
                )
                rest, self._said, self._has_logged_in = self._said[length:], None, True
                self._logins[self.name] += 1
                self._count(rest)
                return

    def _count(self, data: bytes) -> None:
        """Count what a client waits behind (PostgreSQL manual, "Message Flow")."""
        self._unread += data
        while self._has_logged_in and len(self._unread) >= 5 and len(self._unread) > (end := _length(self._unread)):
            self._questions[self.name] += self._unread[:1] in _ASKS
            self._unread = self._unread[end + 1 :]


def _length(message: bytes) -> int:
    """Of a message without the byte that says its kind."""
    (length,) = struct.unpack_from("!i", message, 1)
    return int(length)
