"""schema

Revision ID: p001
Revises:
Create Date: 2015-05-05 05:05:05.000005

"""
from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = 'p001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('item',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('code', sa.String(40), nullable=False),
        sa.Column('amount', sa.Integer(), nullable=True),
        sa.Column('tags', postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column('meta', postgresql.JSONB(), nullable=True),
        sa.Column('day', sa.Date(), nullable=True),
        sa.Column('at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('uid', postgresql.UUID(), nullable=True),
    )
    op.execute("INSERT INTO item (id, code, amount) SELECT n, n::text, n * 10 FROM generate_series(1, 20) n")


def downgrade():
    op.drop_table('item')
