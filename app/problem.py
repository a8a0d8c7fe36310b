"""What a problem is: something that went wrong, in the terms of RFC 9457; its kinds are in errors/."""

from typing import Any, ClassVar

DOCUMENTATION = "https://github.com/migration-endpoint/migration-endpoint#"
"""Where the problem types are explained: the README's headings are the slugs."""


class Problem(Exception):  # noqa: N818 – errors are facts here, without the suffix
    """Something that went wrong, in the terms of RFC 9457.

    Args:
        detail: What happened in this case, in a sentence.
        hint: What to do next, where the class's own hint is not the best one.
        retryable: Whether the same call may succeed later, where this case differs from its class.
        **members: Extension members of the answer, such as `revision` or `holder`; JSON values.
    """

    slug: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    hint: str = ""
    retryable: bool = False
    retry_after_s: ClassVar[int | None] = None

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        **members: Any,  # noqa: ANN401 – whatever JSON can say
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members
        if hint is not None:
            self.hint = hint
        if retryable is not None:
            self.retryable = retryable

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer beside its document."""
        if self.retry_after_s is not None and self.retryable:
            return {"Retry-After": str(self.retry_after_s)}
        return {}

    def document(self, *, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """The problem as RFC 9457 writes it."""
        return {
            "type": f"{DOCUMENTATION}{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "retryable": self.retryable,
            "hint": self.hint,
            "request_id": request_id,
            **self.members,
        }


class Replayed(Problem):
    """The problem that an earlier call with the same Idempotency-Key met, as it was answered then."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["detail"])
        self.status = document["status"]  # type: ignore[misc]  # of its class elsewhere, here of the case
        self._document = document

    @property
    def headers(self) -> dict[str, str]:
        """What tells it from a new answer."""
        return {"Idempotency-Replayed": "true"}

    def document(self, **_: str | None) -> dict[str, Any]:
        """The document as it was answered then."""
        return self._document
