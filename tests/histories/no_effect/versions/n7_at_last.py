"""and one that does something

Revision ID: n7
Revises: n6

"""
from alembic import op
import sqlalchemy as sa

revision = 'n7'
down_revision = 'n6'
branch_labels = None
depends_on = None


def upgrade():
    op.execute("INSERT INTO tenant (name) VALUES ('first')")


def downgrade():
    pass
