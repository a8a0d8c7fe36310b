"""a branch that is never merged

Revision ID: b6
Revises: b5

"""
from alembic import op
import sqlalchemy as sa

revision = 'b6'
down_revision = 'b5'
branch_labels = ('experiment',)
depends_on = None


def upgrade():
    op.create_index('ix_ticket_title', 'ticket', ['title'])
    op.execute("INSERT INTO trail (revision) VALUES ('b6')")


def downgrade():
    pass
