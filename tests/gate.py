"""A revision that goes on for exactly as long as a test wants: until the table `gate` is empty."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import Database

WAITS = """
end = time.monotonic() + 60
while op.get_bind().scalar(sa.text('SELECT count(*) FROM gate')) and time.monotonic() < end:
    time.sleep(0.02)
"""
"""The body of such a revision; between its statements it sleeps in Python."""


@contextmanager
def shut(database: Database) -> Iterator[None]:
    """Within, the revision waits; it goes on afterwards, however the test ends."""
    database.execute("CREATE TABLE IF NOT EXISTS gate AS SELECT 1 AS shut")
    try:
        yield
    finally:
        database.execute("DELETE FROM gate")
