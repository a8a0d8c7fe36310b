"""What is set for the revisions in the place of an env.py: their role, their search path, other settings.

The ledger and the check of the lock are the login's own business, and the role may have no right there. So whatever we
send ourselves between a revision's statements is sent as the login, and then the role is set again.

Sources: PostgreSQL manual, "SET ROLE", "SET" (SET LOCAL), "Configuration Settings Functions" (set_config takes a list
of names as one text, as postgresql.conf has it; SET would take that for one name).
"""

import json
import re
from dataclasses import dataclass

from app.alembic_options import AlembicOptions
from app.database.literals import literal
from app.errors import NotConfigured

_ROLE, _PATH, _SETTINGS = "MIGRATION_ROLE", "MIGRATION_SEARCH_PATH", "MIGRATION_SESSION_SETTINGS"

_KEPT = "migration_endpoint.role"
AS_LOGIN = f"SELECT set_config('{_KEPT}', current_setting('role'), true), set_config('role', 'none', true)"
"""A statement after which the login speaks, until the end of the transaction, or of a message without one."""
ROLE_AGAIN = f"set_config('role', current_setting('{_KEPT}'), true)"
"""An expression: from here on the role speaks again that did before."""
AS_ROLE = f"SELECT {ROLE_AGAIN}"
_SETS_A_ROLE = re.compile(r"\bset\s+(?:(?:session|local)\s+)?role\b|\bset_config\s*\(\s*'role'", re.IGNORECASE)


def sets_a_role(operation: str) -> bool:
    """Whether a statement of a revision's may set the role, by its words."""
    return _SETS_A_ROLE.search(operation) is not None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What is set for the revisions."""

    role: str | None = None
    search_path: str | None = None
    others: tuple[tuple[str, str], ...] = ()
    """Names and values."""

    @property
    def variables(self) -> list[str]:
        """The settings that ask for it."""
        asked = {_PATH: self.search_path, _ROLE: self.role, _SETTINGS: self.others}
        return [name for name, value in asked.items() if value]

    def assignments(self, *, local: bool = True) -> list[str]:
        """The SQL expressions that set all but the role, for the length of the transaction or of the session."""
        return [_assignment(name, value, local=local) for name, value in (*self._path, *self.others)]

    def role_assignment(self, *, local: bool = True) -> list[str]:
        """The SQL expression that sets the role, likewise. From there on it is the role that may, or may not."""
        return [_assignment("role", self.role, local=local)] if self.role else []

    def statement(self, *, local: bool = True) -> list[str]:
        """The statement that sets all of it, likewise; none where there is nothing to set."""
        everything = [*self.assignments(local=local), *self.role_assignment(local=local)]
        return [f"SELECT {', '.join(everything)}"] if everything else []

    @property
    def path(self) -> list[str]:
        """The statement that sets the search path for the length of the transaction."""
        return [f"SELECT {_assignment(name, value, local=True)}" for name, value in self._path]

    @property
    def _path(self) -> tuple[tuple[str, str], ...]:
        return (("search_path", self.search_path),) if self.search_path else ()

    def refused(self, error: Exception, *, role: bool) -> NotConfigured:
        """The problem of settings that PostgreSQL does not take.

        Args:
            error: What it says.
            role: Whether it is about the role, rather than the others.
        """
        named = [_ROLE] if role else [name for name in self.variables if name != _ROLE]
        if len(named) > 1:
            named = [_PATH] if '"search_path"' in str(error) else [_SETTINGS]
        said = str(error.args[0]).rstrip(".")
        return NotConfigured(
            f"PostgreSQL does not take {named[0]}: {said[:1].lower()}{said[1:]}.",
            hint=(
                "Name a role that exists, and of which the role in the connection string is a member: "
                "`GRANT <role> TO <login>`."
                if role
                else "Write it as `SET` in a session of that role would take it; then deploy again."
            ),
            variables=named,
        )


NONE = SessionSettings()
"""As the login, in a session as the server makes it."""


def of(settings: AlembicOptions) -> SessionSettings:
    """What this service's settings ask for."""
    others = json.loads(settings.session_settings) if settings.session_settings else {}
    return SessionSettings(
        settings.role, settings.search_path, tuple((name, _text(value)) for name, value in others.items())
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _assignment(name: str, value: str, *, local: bool) -> str:
    return f"set_config({literal(name)}, {literal(value)}, {literal(local)})"
