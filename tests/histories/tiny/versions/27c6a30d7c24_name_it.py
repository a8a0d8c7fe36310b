"""name is unique

Revision ID: 27c6a30d7c24
Revises: ae1027a6acf

"""
from alembic import op
import sqlalchemy as sa

revision = '27c6a30d7c24'
down_revision = 'ae1027a6acf'
branch_labels = None
depends_on = None


def upgrade():
    op.create_unique_constraint('uq_account_name', 'account', ['name'])


def downgrade():
    pass
