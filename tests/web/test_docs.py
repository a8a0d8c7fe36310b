"""The interactive documentation, and what it documents."""

from typing import Any

import pytest

from app.main import create_app
from app.web.problems import ProblemResponse
from tests.conftest import client_of
from tests.web.answers import problem, without_database

ROUTES = {
    *(("/migrate", "post"), ("/rehearse", "post"), ("/downgrade", "post"), ("/plan", "get")),
    *(("/status", "get"), ("/runs", "get"), ("/runs/{run_id}", "get")),
    *(("/runs/{run_id}/events", "get"), ("/runs/{run_id}/cancel", "post")),
}
OPEN_ROUTES = {("/health", "get"), ("/livez", "get")}


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc"])
async def test_nothing_is_documented_unless_asked_for(path: str) -> None:
    async with client_of(without_database()) as client:
        problem(await client.get(path), "not-found", 404)


async def test_docs_and_openapi_are_served_when_asked_for() -> None:
    async with client_of(without_database(docs=True)) as client:
        assert "swagger" in (await client.get("/docs")).text
        openapi = await client.get("/openapi.json")
        assert openapi.status_code == 200
        assert openapi.headers["cache-control"] == "no-store"


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    paths = create_app(without_database(docs=True)).openapi()["paths"]
    return {(path, method): operation for path, methods in paths.items() for method, operation in methods.items()}


def test_the_description_has_exactly_the_routes_of_the_contract() -> None:
    assert operations().keys() == ROUTES | OPEN_ROUTES


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_each_keyed_route_documents_its_key_and_its_problems(route: tuple[str, str]) -> None:
    operation = operations()[route]
    assert operation["security"]
    expected = {"200", "401", "503"} | ({"202", "403", "409", "422", "500"} if "post" in route else set())
    if "/migrate" in route or "/downgrade" in route:
        expected |= {"413", "415", "504"}
    if "/rehearse" in route:  # which nobody is answered before its end
        expected = expected - {"202"} | {"413", "415"}
    assert operation["responses"].keys() >= expected
    for status, response in operation["responses"].items():
        if status not in ("200", "202", "304") and "description" in response:
            assert ProblemResponse.media_type in response["content"], f"{route} {status}"


def test_rehearse_documents_its_optional_body() -> None:
    body = operations()[("/rehearse", "post")]["requestBody"]
    assert not body.get("required", False)
    assert set(body["content"]["application/json"]["schema"]["properties"]) == {"target", "lock_wait_s"}


def test_migrate_documents_its_optional_body() -> None:
    body = operations()[("/migrate", "post")]["requestBody"]
    assert not body.get("required", False)
    schema = body["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"target", "lock_wait_s", "reason", "plan_digest", "accept"}
    assert schema["additionalProperties"] is False
