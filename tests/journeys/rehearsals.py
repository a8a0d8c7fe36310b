"""POST /rehearse, as the tests of it call it."""

from typing import Any

import httpx

from tests.conftest import client_of
from tests.servers import APPLY


async def rehearse(configuration: Any, body: dict[str, Any] | None = None) -> httpx.Response:
    async with client_of(configuration) as client:
        return await client.post("/rehearse", headers=APPLY, json=body or {})


def names(revisions: list[dict[str, Any]]) -> list[str]:
    return [each["revision"] for each in revisions]
