"""The environment that the database belongs to: looked up, and changed on purpose."""

from app.database import connection, url
from app.database import environment as bindings
from app.migrator import condition, status
from app.report import Environment
from app.settings import Settings


async def environment(settings: Settings) -> Environment:
    """The environment that the database belongs to."""
    async with connection.session(url.database(settings)) as control:
        facts = await status.look(control, settings)
    return Environment(environment=facts.environment, before=facts.environment)


async def bind(settings: Settings, name: str) -> Environment:
    """Bind the database to an environment, whatever it belonged to before.

    Raises:
        PermissionDenied: The role may not write the ledger.
        ReadOnlyDatabase: Nobody may.
    """
    async with connection.session(url.database(settings)) as control:
        facts = await status.look(control, settings)
        condition.insist_on_writes(facts)
        if not facts.ledger_is_current:
            await status.ledger_of(settings, facts).make(control)
        await control.execute(bindings.binding(settings.ledger_schema, name, on_purpose=True))
        after = await status.look(control, settings)
    return Environment(environment=after.environment, before=facts.environment)
