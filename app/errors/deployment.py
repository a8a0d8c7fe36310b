"""The deployment itself: its environment, which one it is, and its defects."""

from app.problem import Problem


class NotConfigured(Problem):
    """A variable of the environment is missing or has a value that cannot be used."""

    slug, status, title = "not-configured", 503, "The deployment is not configured"
    hint = "Set the variable in the deployment's environment, then deploy again."


class UnsuitableEnvPy(Problem):
    """The user's env.py does not take the connection as it is handed, or is missing; what was run is said."""

    slug, status, title = "unsuitable-env-py", 503, "env.py cannot be used as it is"
    hint = 'Let it take `context.config.attributes.get("connection")`, or use the env.py of this project.'


class BrokenHistory(Problem):
    """The revisions cannot be loaded; the database was not asked. Carries everything that is wrong with them."""

    slug, status, title = "broken-history", 503, "The revisions cannot be loaded"
    hint = (
        "Each of the `faults` says what to do. Correct them and deploy again; nothing can be told or done before. "
        "`alembic history` in a checkout of the deployed commit meets the first of them."
    )


class WrongDeployment(Problem):
    """A webhook's event is about another deployment than the one that was asked. Carries event and deployment."""

    slug, status, title = "wrong-deployment", 409, "The event is about another deployment"
    hint = (
        "Nothing was done. This address leads to another deployment: during a rolling release to the one before. "
        "Send the event again when its deployment answers here, or POST /migrate at that deployment's own URL."
    )


class WrongEnvironment(Problem):
    """The database belongs to another environment than this deployment; nothing was changed."""

    slug, status, title = "wrong-environment", 409, "The database belongs to another environment"
    hint = (
        "Point this deployment at its own environment's database: on Vercel each environment has its own value of a "
        "variable. If the database is to change hands, say so in a terminal that reaches it: "
        "`python -m app environment set <name>`."
    )


class InternalError(Problem):
    """A defect of this service; the log has the place."""

    slug, status, title = "internal-error", 500, "Something unexpected happened"
    hint = "The log has an event `internal_error` with this request_id; please report it."
