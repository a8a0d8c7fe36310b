"""Merge heads

Revision ID: x1
Revises: b2a, b2b

"""
from alembic import op
import sqlalchemy as sa

revision = 'x1'
down_revision = ('b2a', 'b2b')
branch_labels = None
depends_on = None


def upgrade():
    op.execute("INSERT INTO trail (revision) VALUES ('x1')")


def downgrade():
    pass
