"""Credentials in other people's messages."""

import random
import string

import pytest

from app.redaction import redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("could not reach postgresql://me:hunter2@db.example/shop", "could not reach postgresql://***@db.example/shop"),
        ("postgres://me:a%40b@h/d and redis://:pw@h", "postgres://***@h/d and redis://***@h"),
        ("postgresql://me:p@ss/w0rd@db.example/shop is down", "postgresql://***@db.example/shop is down"),
        ("postgresql://me:it's<\"@db.example/shop", "postgresql://***@db.example/shop"),
        ("https://me:pw@api.example/x", "https://***@api.example/x"),
        ("connection with password=hunter2 refused", "connection with password=*** refused"),
        ("password='two words' user=me", "password=*** user=me"),
        ("password=a,b;c)d is wrong", "password=*** is wrong"),
        ("CREATE ROLE me LOGIN PASSWORD 'two words' NOINHERIT", "CREATE ROLE me LOGIN PASSWORD *** NOINHERIT"),
        ("{'user': 'me', 'password': 'it\\'s'}", "{'user': 'me', 'password': ***}"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ('{"token": "abc"}', '{"token": ***}'),
        ('relation "users" does not exist', 'relation "users" does not exist'),
        ('password authentication failed for user "me"', 'password authentication failed for user "me"'),
        ("surrogate \ud800", "surrogate ?"),
        ("see https://docs.example/errors@v2", "see https://docs.example/errors@v2"),
    ],
)
def test_credentials_in_other_peoples_messages_are_blanked_out(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_what_is_left_does_not_depend_on_the_secret() -> None:
    chance = random.Random(7)
    templates = (
        "cannot connect to postgresql://me:{}@db.example:5432/shop?sslmode=require",
        "Could not parse SQLAlchemy URL from string 'postgres://me:{}@db.example/shop'",
        "two: redis://:{}@a.example and amqp://me:{}@b.example/",
        "connection failed: host=db user=me password={} dbname=shop",
        "PWD={}; Secret: {} token={}",
    )
    for _ in range(2000):
        secret = "Tick" + "".join(chance.choices(string.ascii_letters + string.digits + string.punctuation, k=12))
        template = chance.choice(templates)
        assert redacted(template.replace("{}", secret)) == redacted(template.replace("{}", "hunter2")), secret
