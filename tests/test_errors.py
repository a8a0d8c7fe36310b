"""The tree of problems, and what must not get out through it."""

import re
from collections.abc import Iterator

import pytest

from app import errors
from app.problem import DOCUMENTATION, Problem
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


def test_a_document_carries_its_members_and_the_standard_ones() -> None:
    problem = errors.LockHeld("Another run.", holder={"run_id": None}, waited_ms=5)
    assert problem.document(instance="/migrate", request_id="r1") == {
        "type": f"{DOCUMENTATION}lock-held",
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
