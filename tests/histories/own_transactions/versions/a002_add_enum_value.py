"""add an enum value, as it was done before autocommit_block

Revision ID: a002
Revises: a001

"""
from alembic import op

revision = 'a002'
down_revision = 'a001'


def upgrade():
    op.execute('COMMIT')  # ALTER TYPE ... ADD cannot run inside a transaction block
    op.execute("ALTER TYPE account_kind ADD VALUE 'trial'")
    op.execute("ALTER TYPE account_kind ADD VALUE IF NOT EXISTS 'gone' AFTER 'free'")


def downgrade():
    pass
