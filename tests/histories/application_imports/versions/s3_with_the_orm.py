"""prices for all products, with the models of today

Revision ID: s3
Revises: s2

"""
from alembic import context, op
from sqlalchemy.orm import Session

from shopapp.models import Price, Product, Status

revision = 's3'
down_revision = 's2'


def upgrade(**kw):
    with Session(bind=op.get_bind()) as session:
        for product in session.query(Product).order_by(Product.id):
            session.add(Price(product_id=product.id, cents=product.id * 100))
        session.query(Product).filter_by(status=Status.draft).update({'status': Status.live})
        session.commit()
    op.drop_constraint(op.f('uq__product__tenant_id'), 'product')


def downgrade(**kw):
    pass
