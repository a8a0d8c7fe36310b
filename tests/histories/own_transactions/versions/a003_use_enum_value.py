"""use it

Revision ID: a003
Revises: a002

"""
from alembic import op

revision = 'a003'
down_revision = 'a002'


def upgrade():
    op.execute("UPDATE account SET kind = 'trial' WHERE id % 10 = 0")
    op.execute("ALTER TABLE account ALTER COLUMN kind SET DEFAULT 'trial'")


def downgrade():
    pass
