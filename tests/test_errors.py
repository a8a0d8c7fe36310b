"""The tree of problems, and what must not get out through it."""

import random
import re
import string
from collections.abc import Iterator

import pytest

from app import errors
from app.errors import Problem, redacted
from tests import servers


def leaves(of: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every class that is raised: those with a slug of their own."""
    if "slug" in vars(of):
        yield of
    for child in of.__subclasses__():
        yield from leaves(child)


PROBLEMS = sorted(leaves(), key=lambda problem: problem.slug)


def test_each_problem_has_a_slug_of_its_own() -> None:
    slugs = [problem.slug for problem in PROBLEMS]
    assert len(slugs) == len(set(slugs)) >= 20
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.slug)
def test_each_problem_says_what_happened_and_what_to_do(problem: type[Problem]) -> None:
    assert 400 <= problem.status < 600
    assert problem.title
    assert problem.hint.endswith((".", "`."))
    assert not problem.retryable or problem.retry_after_s, "a caller who may try again is told when"


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.slug)
def test_each_type_leads_to_a_heading_of_the_readme(problem: type[Problem]) -> None:
    readme = (servers.PROJECT / "README.md").read_text()
    section = re.search(rf"^#### {problem.slug}\n(\d+)", readme, re.MULTILINE)
    assert section, f"README has no heading {problem.slug}"
    assert int(section[1]) == problem.status


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", (errors.__doc__ or "").split("Each class knows")[0]))
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined <= drawn, defined - drawn


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


def test_a_document_carries_its_members_and_the_standard_ones() -> None:
    problem = errors.LockHeld("Another run.", holder={"run_id": None}, waited_ms=5)
    assert problem.document(instance="/migrate", request_id="r1") == {
        "type": f"{errors.DOCUMENTATION}lock-held",
        "title": "Another run is under way",
        "status": 409,
        "detail": "Another run.",
        "instance": "/migrate",
        "retryable": True,
        "hint": errors.LockHeld.hint,
        "request_id": "r1",
        "holder": {"run_id": None},
        "waited_ms": 5,
    }
    assert problem.headers == {"Retry-After": "5"}


def test_a_case_that_is_not_retryable_says_so_against_its_class() -> None:
    problem = errors.DatabaseUnavailable("No such database.", retryable=False, hint="Create it.")
    assert (problem.retryable, problem.hint, problem.headers) == (False, "Create it.", {})
