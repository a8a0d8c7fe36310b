"""create what the models say

Revision ID: s1
Revises:

"""
from alembic import op
import sqlalchemy as sa

from shopapp.models import Base, Product, Status

revision = 's1'
down_revision = None


def upgrade(tenant, **kw):
    op.create_table('audit', sa.Column('id', sa.Integer(), sa.Identity()), sa.Column('what', sa.Text()), sa.PrimaryKeyConstraint('id'))
    Base.metadata.create_all(op.get_bind(), tables=[Product.__table__])
    op.bulk_insert(Product.__table__, [{'id': 1, 'status': Status.live, 'tenant': tenant}, {'id': 2, 'status': Status.draft, 'tenant': tenant}])


def downgrade(**kw):
    op.drop_table('product')
