"""Alembic's environment, for the endpoint and for the plain `alembic` command alike."""

from typing import Any

import sqlalchemy as sa
from alembic import context

from app.migrator import alembic_command

alembic_command.honour_settings()

# The place for your models, so that `alembic revision --autogenerate` sees them (or MIGRATION_TARGET_METADATA):
#     from shop.models import Base
#     target_metadata = Base.metadata
target_metadata: sa.MetaData | None = None


def run_migrations(connection: sa.Connection | None = None, **options: Any) -> None:
    """Run what the command or the endpoint asks for on `connection`, or write its SQL when there is none."""
    context.configure(connection=connection, target_metadata=target_metadata, **options)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():  # `alembic upgrade head --sql`
    run_migrations(dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True)
elif (handed_over := context.config.attributes.get("connection")) is not None:
    run_migrations(handed_over)
else:
    alembic_command.run(run_migrations)
