"""The terms on which a plan is run: that it is the one its caller has pinned, and no worse than is let pass."""

from typing import TYPE_CHECKING
from urllib.parse import quote

from app.database.catalog import Facts
from app.database.connection import Session
from app.errors import DowngradeNotAllowed, PlanChanged, PlanRequired, UnsafePlan
from app.migrator import aim, modified, plan
from app.migrator.aim import Aim
from app.migrator.call import Call
from app.report import LEVELS, Finding, Revision
from app.settings import Settings

if TYPE_CHECKING:
    from app.migrator.revisions import History

_REVIEW_IT = (
    "GET /plan?direction=downgrade&target={target} tells what it destroys; then send its digest as `plan_digest`."
)
_ONLY_OURS = (
    "squawk is not installed here, so the plan was judged by the built-in rules alone: add the extra `lint` to this "
    "deployment's dependencies, or judge the plan where squawk is."
)


def insist_on_a_plan(call: Call, settings: Settings) -> None:
    """See that the call may be carried out at all, before anything is looked at.

    Raises:
        DowngradeNotAllowed: It is a downgrade, and those are off.
        PlanRequired: It pins no plan, and one is needed.
    """
    if call.direction == "downgrade":
        if not settings.allow_downgrade:
            raise DowngradeNotAllowed("This deployment downgrades no database.")
        if call.plans is None:
            raise PlanRequired(
                "A downgrade runs only the plan that its caller has reviewed.",
                hint=_REVIEW_IT.format(target=quote(call.target, safe="@")),
            )
    if settings.require_plan and call.plans is None:
        raise PlanRequired("The call names no plan, by `plan_digest` or If-Match.")


class Terms:
    """The terms of one call."""

    def __init__(self, call: Call, settings: Settings, history: "History", aimed: Aim) -> None:
        self.pinned: str | None = None
        """The digest of the plan that is run, where the caller has pinned one."""
        self.accepted: list[Finding] = []
        """The findings that the caller has accepted by name."""
        self.warnings: list[str] = []
        self._call = call
        self._settings = settings
        self._history = history
        self._aim = aimed
        self._judged: list[Revision] | None = None

    @property
    def judge_findings(self) -> bool:
        """Whether the findings of a plan matter."""
        return self._settings.max_level is not None or bool(self._call.accept)

    async def insist_on_the_pin(self, control: Session, facts: Facts) -> None:
        """See that this is the plan that the caller has pinned, if it has, or what is left of it.

        To be asked with the lock held: until then somebody else may change it.

        Raises:
            PlanChanged: It is not.
        """
        call = self._call
        if call.plans is None or await self._is_pinned(control, facts):
            return
        edited = await modified.listed(control, self._settings, self._history, facts)
        now = await plan.drawn(self._history, facts, call.target, call.direction, edited=edited)
        raise PlanChanged(
            f"What would run now has the digest {now.digest[:12]}…, which is not that of the pinned plan.",
            plan=now.model_dump(mode="json"),
        )

    async def _is_pinned(self, control: Session, facts: Facts) -> bool:
        """Whether the pinned plan is what is pending, or that behind what runs with the same pin have done last.

        A run that stopped halfway is to be called again, with the same pin: what it did and what is left are that plan,
        from the heads that it began at.
        """
        plans = self._call.plans or frozenset()
        rest = plan.hashed(self._history, self._aim.pending)
        self.pinned = self._aim.digest(facts, rest, facts.heads)
        if self.pinned in plans:
            return True
        for heads, done in await aim.begun(control, self._call, self._settings, facts):
            self.pinned = self._aim.digest(facts, [*done, *rest], heads)
            if self.pinned in plans:
                return True
        return False

    async def insist_on_findings(self, facts: Facts) -> None:
        """See that the plan has no findings that are not let pass; looked at once, as long as the same is pending.

        Raises:
            UnsafePlan: It has, and the caller has not accepted them.
        """
        call, most = self._call, self._settings.max_level
        if not self.judge_findings or self._aim.pending == self._judged:
            return
        drawn = await plan.drawn(
            self._history, facts, call.target, call.direction, edited=[], destination=self._aim.destination
        )
        found = [finding for each in drawn.pending for finding in each.findings]
        self.accepted = [finding for finding in found if finding.rule in call.accept]
        bound = LEVELS.index(most or LEVELS[-1])
        unsafe = [each for each in found if LEVELS.index(each.level) > bound and each.rule not in call.accept]
        if unsafe:
            rules = ", ".join(dict.fromkeys(finding.rule for finding in unsafe))
            raise UnsafePlan(
                f"The plan has {len(unsafe)} findings worse than `{most}`: {rules}.",
                findings=[finding.model_dump(mode="json") for finding in unsafe],
                digest=drawn.digest,
            )
        if drawn.lint == "unavailable":
            self.warnings = [_ONLY_OURS]
        self._judged = self._aim.pending
