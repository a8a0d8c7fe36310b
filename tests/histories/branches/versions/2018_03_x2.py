"""Merge branch master into develop

Revision ID: x2
Revises: b2b, b2a

"""
from alembic import op
import sqlalchemy as sa

revision = 'x2'
down_revision = ('b2b', 'b2a')
branch_labels = None
depends_on = None


def upgrade():
    op.execute("INSERT INTO trail (revision) VALUES ('x2')")


def downgrade():
    pass
