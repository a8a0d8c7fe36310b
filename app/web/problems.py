"""Problems as answers: RFC 9457, `application/problem+json`."""

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from app.errors import (
    BadSignature,
    InsufficientScope,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
)
from app.problem import DOCUMENTATION, Problem

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {"description": "The caller's, if it sent one.", "required": True, "schema": {"type": "string"}},
    "Cache-Control": {"required": True, "schema": {"type": "string", "const": "no-store"}},
}
"""What every answer has, for OpenAPI; the envelope writes them."""


class ProblemDocument(BaseModel):
    """A problem, as RFC 9457 writes it; further members depend on its type."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A URI that ends in the problem's name, such as `#lock-held`.")
    title: str
    status: int
    detail: str = Field(description="What happened, in this case.")
    instance: str | None
    retryable: bool = Field(description="Whether the same call may succeed later.")
    hint: str = Field(description="What to do next.")
    request_id: str | None


_DOCUMENT = ProblemDocument.model_json_schema()


class ProblemResponse(JSONResponse):
    """The answer that a problem is."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, scope: Scope) -> None:
        super().__init__(
            problem.document(instance=reference(scope), request_id=request_id(scope)),
            status_code=problem.status,
            headers=problem.headers,
        )


def reference(scope: Scope) -> str:
    """The path as it came, which is a valid URI reference where the decoded one may not be."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.decode("ascii", "replace")


def request_id(scope: Scope) -> str:
    """The id of the request, as the envelope gave it."""
    return str(scope["state"]["request_id"])


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The answers of a route beside its model, for OpenAPI: headers, and the problems that it may answer with."""
    by_status: dict[int, list[type[Problem]]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(problem)
    by_status.setdefault(InternalError.status, []).append(InternalError)
    return {200: {"headers": HEADERS}, **{status: _answer(status, those) for status, those in by_status.items()}}


def _answer(status: int, problems: list[type[Problem]]) -> dict[str, Any]:
    """One status of a route. The types are listed, so that a caller, and a fuzzer, knows which ones there are."""
    members: dict[str, dict[str, Any]] = _DOCUMENT["properties"]
    types = {"enum": [f"{DOCUMENTATION}{problem.slug}" for problem in problems]}
    exact = {**members, "type": members["type"] | types, "status": members["status"] | {"const": status}}
    headers = dict(HEADERS)
    if any(problem.retry_after_s is not None for problem in problems):
        headers["Retry-After"] = {"description": "Seconds, if retryable.", "schema": {"type": "integer"}}
    if any(issubclass(problem, Unauthenticated | InsufficientScope | BadSignature) for problem in problems):
        headers["WWW-Authenticate"] = {"required": True, "schema": {"type": "string"}}
    return {
        "description": "; ".join(f"{problem.title} (`{problem.slug}`)" for problem in problems),
        "headers": headers,
        "content": {ProblemResponse.media_type: {"schema": {**_DOCUMENT, "properties": exact}}},
    }


def install(app: FastAPI) -> None:
    """Have the application answer problems, and its framework's own errors, in this form."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 – Starlette's signature is wider than what it sends here
    return ProblemResponse(error, request.scope)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 – as above
    method, path = request.method, request.url.path[:200]
    match error.status_code:
        case 404:
            problem: Problem = NotFound(f"There is no route {path}.")
        case 405:
            allow = (error.headers or {}).get("Allow", "")
            problem = MethodNotAllowed(f"{path} does not take {method}.", allow=allow)
        case _:
            problem = InvalidRequest(str(error.detail))
    return ProblemResponse(problem, request.scope)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 – as above
    return ProblemResponse(invalid(error.errors()), request.scope)


def invalid(faults: Any) -> InvalidRequest:  # noqa: ANN401 – pydantic's list of faults
    """The problem for a validation error; says where, and does not quote what came."""
    where = [
        {"field": ".".join(str(part) for part in fault["loc"]) or "body", "message": fault["msg"]} for fault in faults
    ]
    of_the_query = all(each["field"].startswith("query.") for each in where)
    return InvalidRequest(
        "; ".join(f"{each['field']}: {each['message']}" for each in where),
        hint="Correct the parameters that `errors` names, or leave them out." if of_the_query else None,
        errors=where,
    )
