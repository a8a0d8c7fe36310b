from alembic import context
from sqlalchemy import engine_from_config, pool, text

import shopapp.db.operations  # noqa: registers op.create_audit_trigger
from shopapp.models import Base

config = context.config
target_metadata = Base.metadata


def include_object(object, name, type_, reflected, compare_to):
    return not (type_ == 'table' and reflected and compare_to is None)


def run(connection):
    tenant = context.get_x_argument(as_dictionary=True).get('tenant', 'acme')
    connection.execute(text('CREATE SCHEMA IF NOT EXISTS ops'))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        version_table='schema_version',
        version_table_schema='ops',
        include_schemas=True,
        include_object=include_object,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations(tenant=tenant)


if context.is_offline_mode():
    context.configure(dialect_name='postgresql', target_metadata=target_metadata, literal_binds=True, dialect_opts={'paramstyle': 'named'})
    with context.begin_transaction():
        context.run_migrations(tenant='acme')
elif config.attributes.get('connection') is not None:
    run(config.attributes['connection'])
else:
    engine = engine_from_config(config.get_section(config.config_ini_section), prefix='sqlalchemy.', poolclass=pool.NullPool)
    with engine.connect() as connection:
        run(connection)
