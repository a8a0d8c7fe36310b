"""autocommit by other means: an isolation level, the raw connection

Revision ID: a009
Revises: a008

"""
import sqlalchemy as sa
from alembic import op

revision = 'a009'
down_revision = 'a008'


def upgrade():
    connection = op.get_bind()
    op.execute('COMMIT')
    op.execute('CREATE INDEX CONCURRENTLY ix_account_plan ON account (plan)')
    op.execute('BEGIN')
    op.execute("INSERT INTO account (kind, domain) VALUES ('paid', 'after the index')")
    connection.commit()
    connection.execution_options(isolation_level='AUTOCOMMIT')
    connection.execute(sa.text("ALTER TYPE account_kind ADD VALUE 'last'"))
    connection.execute(sa.text('CREATE INDEX CONCURRENTLY ix_account_note ON account (note)'))
    connection.commit()
    connection.execution_options(isolation_level='READ COMMITTED')
    connection.execute(sa.text("UPDATE account SET kind = 'last' WHERE id = 2"))


def downgrade():
    pass
