"""statements that meet no row

Revision ID: n6
Revises: n5

"""
from alembic import op
import sqlalchemy as sa

revision = 'n6'
down_revision = 'n5'
branch_labels = None
depends_on = None


def upgrade():
    op.execute("UPDATE tenant SET name = trim(name) WHERE name LIKE ' %'")
    op.execute("DELETE FROM tenant WHERE name IS NULL")


def downgrade():
    pass
