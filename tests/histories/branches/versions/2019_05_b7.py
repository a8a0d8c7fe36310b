"""and what the others do meanwhile

Revision ID: b7
Revises: b5

"""
from alembic import op
import sqlalchemy as sa

revision = 'b7'
down_revision = 'b5'
branch_labels = None
depends_on = None


def upgrade():
    op.drop_column('ticket', 'invoice_id')
    op.execute("INSERT INTO trail (revision) VALUES ('b7')")


def downgrade():
    pass
