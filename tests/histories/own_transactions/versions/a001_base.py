"""base

Revision ID: a001
Revises:
Create Date: 2016-01-01 00:00:00.000000

"""
from alembic import op
import sqlalchemy as sa

revision = 'a001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('account',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('kind', sa.Enum('free', 'paid', name='account_kind'), nullable=False),
        sa.Column('email', sa.String(200), nullable=True),
    )
    op.execute("INSERT INTO account (kind, email) SELECT 'free', 'u' || n || '@example.org' FROM generate_series(1, 100) n")


def downgrade():
    op.drop_table('account')
    op.execute('DROP TYPE account_kind')
