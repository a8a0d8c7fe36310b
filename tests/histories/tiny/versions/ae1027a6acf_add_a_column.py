"""Add a column

Revision ID: ae1027a6acf
Revises: 1975ea83b712

"""
from alembic import op
import sqlalchemy as sa

revision = 'ae1027a6acf'
down_revision = '1975ea83b712'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('account', sa.Column('last_transaction_date', sa.DateTime))


def downgrade():
    pass
