<%!
    def assigned(value):
        """Write a value as ruff format would, with the type that mypy wants for it."""
        value = tuple(value) if isinstance(value, list) else value
        kind = "tuple[str, ...]" if isinstance(value, tuple) else "str | None"
        return f"{kind} = " + repr(value).replace("'", '"')
%>\
"""${message.rstrip(".")}.

Say here what could go wrong on a table in use, and how this revision avoids it; those before it show how.
"""

import sqlalchemy as sa
from alembic import op
% if imports:
${imports}
% endif

revision: str = "${up_revision}"
down_revision: ${assigned(down_revision)}
branch_labels: ${assigned(branch_labels)}
depends_on: ${assigned(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
