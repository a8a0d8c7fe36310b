"""Who calls, and with what: the key, the signature, the request."""

from app.problem import Problem


class Unauthenticated(Problem):
    """No key came, or one that is not ours (RFC 6750, section 3)."""

    slug, status, title = "unauthenticated", 401, "A key is needed"
    hint = "Send the header `Authorization: Bearer $MIGRATION_API_KEY`."

    def __init__(self, detail: str, *, token_came: bool) -> None:
        super().__init__(detail)
        self.token_came = token_came

    @property
    def headers(self) -> dict[str, str]:
        """The challenge; it names an error only if a token came (RFC 6750, section 3.1)."""
        return {
            "WWW-Authenticate": 'Bearer realm="migrate"' + ', error="invalid_token"' * self.token_came,
        }


class InsufficientScope(Problem):
    """The key is known, and may not do this."""

    slug, status, title = "insufficient-scope", 403, "This key may only read"
    hint = "Use a key of MIGRATION_API_KEY; those of MIGRATION_READ_KEY only read."

    @property
    def headers(self) -> dict[str, str]:
        """The challenge of RFC 6750, section 3.1."""
        return {"WWW-Authenticate": 'Bearer realm="migrate", error="insufficient_scope", scope="apply"'}


class BadSignature(Problem):
    """A webhook that nobody we know has signed, or not lately."""

    slug, status, title = "bad-signature", 401, "The webhook's signature does not hold"
    hint = (
        "See that the secret in the sender's settings is among those in this deployment's environment, and that "
        "nothing on the way changes the body."
    )

    @property
    def headers(self) -> dict[str, str]:
        """The challenge that every 401 must have (RFC 9110, section 15.5.2)."""
        return {"WWW-Authenticate": 'Signature realm="hooks"'}


class InvalidRequest(Problem):
    """The request is not what the route takes."""

    slug, status, title = "invalid-request", 422, "The request is not valid"
    hint = 'Send a JSON object such as {"target": "heads"}, or no body at all.'


class UnknownTarget(InvalidRequest):
    """The target names no revision of this deployment."""

    slug, title = "unknown-target", "The target is not in this deployment's history"
    hint = "Use `heads`, or a revision that GET /status lists; check that the right commit is deployed."


class BodyTooLarge(InvalidRequest):
    """The body is larger than any valid one."""

    slug, status, title = "body-too-large", 413, "The body is too large"


class WrongMediaType(InvalidRequest):
    """The body is not declared as JSON."""

    slug, status, title = "wrong-media-type", 415, "The body must be JSON"
    hint = "Add the header `Content-Type: application/json`; curl's -d alone declares a form."


class NotFound(InvalidRequest):
    """There is no such route or thing."""

    slug, status, title = "not-found", 404, "Not found"
    hint = (
        "The routes are POST /migrate, /rehearse, /downgrade, /runs/{id}/cancel, and GET /status, /plan, /runs, "
        "/runs/{id}, /runs/{id}/events, /health, /livez; those under /hooks are there once their secret is set."
    )


class MethodNotAllowed(InvalidRequest):
    """The route exists with another method."""

    slug, status, title = "method-not-allowed", 405, "The route does not take this method"
    hint = "See the Allow header."

    def __init__(self, detail: str, *, allow: str) -> None:
        super().__init__(detail)
        self.allow = allow

    @property
    def headers(self) -> dict[str, str]:
        """Which methods the route takes (RFC 9110, section 15.5.6)."""
        return {"Allow": self.allow}


class IdempotencyKeyReused(Problem):
    """An Idempotency-Key came a second time, with another body."""

    slug, status, title = "idempotency-key-reused", 422, "The key stands for another request"
    hint = "Use a new Idempotency-Key for each request, and the same one only to repeat a request as it was."


class StillRunning(Problem):
    """The run that an Idempotency-Key stands for is still going on."""

    slug, status, title = "still-running", 409, "The first run of this key is still going on"
    hint = "Call again with the same key: once the run has ended, its answer is yours. `Location` shows how far it is."
    retryable = True
    retry_after_s = 2

    @property
    def headers(self) -> dict[str, str]:
        """And where the run is, once it holds the lock."""
        location = {"Location": f"/runs/{self.members['run_id']}"} if "run_id" in self.members else {}
        return {**super().headers, **location}


class RunEnded(Problem):
    """A run that is to be cancelled has ended already."""

    slug, status, title = "run-ended", 409, "The run has ended already"
    hint = "GET /runs/{id} tells how it ended."
