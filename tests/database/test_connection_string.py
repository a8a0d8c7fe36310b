"""A connection string taken apart: exactly as SQLAlchemy would, which reads it for the plain `alembic` command."""

from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.database import connection_string
from tests.fuzzing import examples

WORDS = "postgresql +asyncpg :// : / @ ? & = %40 % [ ] ::1 db.example 5432 user s3cret host sslmode , é # +"
pieces = st.sampled_from([*WORDS.split(), " ", "\n"])


@given(st.lists(pieces, max_size=14).map("".join).map("postgresql://".__add__) | st.lists(pieces).map("".join))
@example("postgresql://me:p%40ss@[::1]:5433/my%20shop?sslmode=require&host=%2Ftmp&host=other")
@example("postgresql://a@b:c@d/e")
@example("postgresql://host:/shop")
@examples(400)
def test_every_part_is_what_sqlalchemy_makes_of_it(text: str) -> None:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        theirs = None
    else:
        query = {key: value if isinstance(value, str) else value[-1] for key, value in url.query.items()}
        password = None if url.password is None else str(url.password)
        theirs = (url.drivername, url.username, password, url.host, url.port, url.database, query)
    try:
        mine = connection_string.parts(text)
    except ValueError:
        ours = None
    else:
        ours = (mine.drivername, mine.username, mine.password, mine.host, mine.port, mine.database, mine.query)
    assert ours == theirs
