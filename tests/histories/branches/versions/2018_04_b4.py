"""merge of the merges

Revision ID: b4
Revises: x1, x2

"""
from alembic import op
import sqlalchemy as sa

revision = 'b4'
down_revision = ('x1', 'x2')
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('ticket', sa.Column('invoice_id', sa.Integer(), sa.ForeignKey('invoice.id')))
    op.execute("INSERT INTO trail (revision) VALUES ('b4')")


def downgrade():
    pass
