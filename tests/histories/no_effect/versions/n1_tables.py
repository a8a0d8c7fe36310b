"""tables

Revision ID: n1
Revises: 

"""
from alembic import op
import sqlalchemy as sa

revision = 'n1'
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('tenant', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('name', sa.Text()))


def downgrade():
    pass
