"""weights

Revision ID: s3
Revises: s2

"""
from alembic import op
import sqlalchemy as sa

revision = 's3'
down_revision = 's2'
branch_labels = None
depends_on = None


def upgrade():
    op.add_column('ticket', sa.Column('weight', sa.Float()), schema='search')
    op.execute("INSERT INTO trail (revision) VALUES ('s3')")


def downgrade():
    pass
