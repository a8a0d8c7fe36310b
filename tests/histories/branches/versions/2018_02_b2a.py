"""one team

Revision ID: b2a
Revises: b1

"""
from alembic import op
import sqlalchemy as sa

revision = 'b2a'
down_revision = 'b1'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('invoice', sa.Column('id', sa.Integer(), primary_key=True))
    op.execute("INSERT INTO trail (revision) VALUES ('b2a')")


def downgrade():
    pass
