"""go on

Revision ID: b5
Revises: b4

"""
from alembic import op
import sqlalchemy as sa

revision = 'b5'
down_revision = 'b4'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('ticket', sa.Column('title', sa.Text(), server_default='', nullable=False))
    op.execute("INSERT INTO trail (revision) VALUES ('b5')")


def downgrade():
    pass
