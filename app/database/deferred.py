"""Queries that PostgreSQL looks at only once they are run, since they are handed over as text.

A statement that names a table fails where that is not there, as one does that calls a function which the role may not
call; and a look at the database must not need another round trip to find that out. `ts_stat` runs a query given as
text, and tells its words (PostgreSQL manual, "Text Search Functions and Operators").
"""

from app.database.literals import literal


def word(expression: str, source: str) -> str:
    """An SQL expression: the text that `expression` gives for the one row of `source`; null without a row."""
    return f"(SELECT word FROM {_words(expression, source)})"


def words(expression: str, source: str) -> str:
    """An SQL expression: the texts that `expression` gives for the rows of `source`, each once, as a JSON array."""
    return f"array_to_json(ARRAY(SELECT word FROM {_words(expression, source)}))"


def _words(expression: str, source: str) -> str:
    query = f"SELECT array_to_tsvector(ARRAY[{expression}]) FROM {source}"
    return f"ts_stat({literal(query)})"
