"""empty message

Revision ID: n4
Revises: n3

"""
from alembic import op
import sqlalchemy as sa

revision = 'n4'
down_revision = 'n3'
branch_labels = None
depends_on = None


def upgrade():
    pass


def downgrade():
    pass
