import enum
import sqlalchemy as sa
from sqlalchemy.orm import declarative_base

convention = {
    'ix': 'ix__%(table_name)s__%(column_0_N_name)s',
    'uq': 'uq__%(table_name)s__%(column_0_N_name)s',
    'ck': 'ck__%(table_name)s__%(constraint_name)s',
    'fk': 'fk__%(table_name)s__%(column_0_N_name)s__%(referred_table_name)s',
    'pk': 'pk__%(table_name)s',
}
metadata = sa.MetaData(naming_convention=convention)
Base = declarative_base(metadata=metadata)


class Status(str, enum.Enum):
    draft = 'draft'
    live = 'live'


class Product(Base):
    __tablename__ = 'product'

    id = sa.Column(sa.Integer, primary_key=True)
    status = sa.Column(sa.Enum(Status, name='product_status'), nullable=False, default=Status.draft)
    tenant = sa.Column(sa.String(20), nullable=False)


class Price(Base):
    __tablename__ = 'price'

    id = sa.Column(sa.Integer, primary_key=True)
    product_id = sa.Column(sa.ForeignKey('product.id'), index=True)
    cents = sa.Column(sa.Integer, sa.CheckConstraint('cents >= 0', name='not_negative'))
