"""prices, named by the convention of the models

Revision ID: s2
Revises: s1

"""
from alembic import op
import sqlalchemy as sa

import shopapp.db.operations
from shopapp import models

revision = 's2'
down_revision = 's1'


def upgrade(tenant='nobody', **kw):
    op.create_table('price',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('product_id', sa.Integer(), nullable=True),
        sa.Column('cents', sa.Integer(), nullable=True),
        sa.CheckConstraint('cents >= 0', name='not_negative'),
        sa.ForeignKeyConstraint(['product_id'], ['product.id'], name=op.f('fk__price__product_id__product')),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_index(None, 'price', ['product_id'])
    op.create_unique_constraint(None, 'product', ['tenant', 'id'])
    op.create_check_constraint('tenant_is_lower', 'product', 'tenant = lower(tenant)')
    op.create_audit_trigger('price')
    op.execute(models.Price.__table__.insert().values(product_id=1, cents=100))
    op.add_column('price', sa.Column('set_by', sa.String(), server_default=tenant))


def downgrade(**kw):
    op.drop_table('price')
