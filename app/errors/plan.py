"""The plan: why what would run is not what may run."""

from app.problem import Problem


class PlanRefused(Problem):
    """What would run is not what may run; nothing was changed."""

    status = 409


class PlanChanged(PlanRefused):
    """What would run is not the plan that the caller has pinned. Carries the plan as it is now."""

    slug, status, title = "plan-changed", 412, "The plan is not the one that was reviewed"
    hint = "Review `plan`, the plan as it is now; then call again with its digest."


class PlanRequired(PlanRefused):
    """The call pins no plan, and this deployment runs none that nobody has reviewed (RFC 6585, section 3)."""

    slug, status, title = "plan-required", 428, "Only a reviewed plan is run here"
    hint = (
        "MIGRATION_REQUIRE_PLAN is set. Review GET /plan, then send its `digest` as `plan_digest` in the body, or its "
        "ETag as If-Match."
    )


class UnsafePlan(PlanRefused):
    """The plan has findings worse than this deployment lets pass. Carries them."""

    slug, title = "unsafe-plan", "The plan has findings that are not let pass"
    hint = (
        "Each of the `findings` shows the safe way. Take it; or name the rules that you accept in the body, as in "
        '{"accept": ["ban-drop-column"]}, which goes on record.'
    )


class RevisionModified(PlanRefused):
    """A revision's file is not the one that was applied. Carries which."""

    slug, title = "revision-modified", "A revision was edited after it was applied"
    hint = (
        "Take the edit back, and make the change in a new revision: where the old file was applied, the new text will "
        "never run. If the edit changes nothing that runs, unset MIGRATION_ON_MODIFIED."
    )


class RehearsalNotAllowed(PlanRefused):
    """Rehearsals lock tables as the run itself would, which production is to be spared."""

    slug, title = "rehearsal-not-allowed", "No rehearsal in production"
    hint = (
        "Rehearse on a copy or a branch of the database. To rehearse here all the same, with its table locks, set "
        "MIGRATION_REHEARSE_IN=production."
    )


class RehearsalFailed(PlanRefused):
    """A revision failed in a rehearsal; all is rolled back, or it says otherwise. Carries the steps and the problem."""

    slug, title = "rehearsal-failed", "A revision failed in the rehearsal"
    hint = "Nothing was changed. `problem` is what a run would have ended with; correct the revision."


class DowngradeNotAllowed(PlanRefused):
    """Downgrades are off."""

    slug, title = "downgrade-not-allowed", "Downgrades are off"
    hint = (
        "A downgrade usually destroys data, and a new revision that goes forward does not. To allow it, set "
        "MIGRATION_ALLOW_DOWNGRADE=true and deploy."
    )
