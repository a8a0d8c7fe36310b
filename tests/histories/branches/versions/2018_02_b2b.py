"""another team, on the same day

Revision ID: b2b
Revises: b1

"""
from alembic import op
import sqlalchemy as sa

revision = 'b2b'
down_revision = 'b1'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('ticket', sa.Column('id', sa.Integer(), primary_key=True))
    op.execute("INSERT INTO trail (revision) VALUES ('b2b')")


def downgrade():
    pass
