"""Routes that are made when they are first asked for."""

import httpx
import pytest
from starlette.routing import Route

from app.main import create_app
from app.web import later, plan
from tests.web.answers import without_database


@pytest.mark.parametrize("paths", later._MADE_BY)
def test_every_route_is_asked_for_by_what_its_path_begins_with(paths: tuple[str, ...]) -> None:
    made = {route.path for route in later._MADE_BY[paths]().routes if isinstance(route, Route)}
    made.discard("/livez")  # described beside /health, and answered by livez.py
    assert made
    assert all(path.startswith(paths) for path in made)


async def test_they_are_made_when_they_are_asked_for_and_once() -> None:
    app = create_app(without_database())
    there = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for path, status in (("/livez", 200), ("/nowhere", 404), ("/plan", 401), ("/plan", 401)):
            assert (await client.get(path)).status_code == status
            there.append(len(app.routes))
    assert [count - there[0] for count in there] == [0, 0, len(plan.router.routes), len(plan.router.routes)]
