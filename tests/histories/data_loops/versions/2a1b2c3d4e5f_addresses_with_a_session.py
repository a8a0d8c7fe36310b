"""addresses, with the ORM

Revision ID: 2a1b2c3d4e5f
Revises: 1a1b2c3d4e5f
Create Date: 2019-02-14 14:00:00.000000

"""
import uuid

import sqlalchemy as sa
from alembic import op
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import declarative_base

revision = '2a1b2c3d4e5f'
down_revision = '1a1b2c3d4e5f'

Base = declarative_base()


class Person(Base):
    __tablename__ = 'people'

    id = sa.Column(UUID(as_uuid=True), primary_key=True)
    serial = sa.Column(sa.Integer)
    name = sa.Column(sa.String)
    profile = sa.Column(JSONB)
    addresses = orm.relationship('Address', order_by='Address.id')


class Address(Base):
    __tablename__ = 'address'

    id = sa.Column(sa.Integer, primary_key=True)
    person_id = sa.Column(UUID(as_uuid=True), sa.ForeignKey('people.id'), nullable=False)
    street = sa.Column(sa.String(200), nullable=False)
    meta = sa.Column(JSONB, nullable=False, default=dict)


def upgrade():
    bind = op.get_bind()
    Address.__table__.create(bind)
    session = orm.Session(bind=bind)
    for person in session.query(Person).order_by(Person.serial):
        person.addresses.append(Address(street='%d Main St' % person.serial))
        if person.profile:
            person.addresses.append(Address(street='c/o "B"', meta={'from': person.profile['a'], 'tags': ['x']}))
    session.commit()

    session = orm.Session(bind=bind)
    first = session.get(Person, uuid.UUID(int=1))
    first.profile = {**first.profile, 'moved': True}
    assert session.query(Address).filter(Address.meta['from'][0].astext == '1').count() == 1
    assert session.query(Person).filter(Person.name.like('person %')).count() == 28
    assert session.execute(sa.select(sa.func.count()).select_from(Address)).scalar() == 31
    session.query(Address).filter(Address.street.in_(['7 Main St', '8 Main St'])).delete(synchronize_session=False)
    assert session.query(Address).filter_by(street='9 Main St').update({'street': 'Nine'}) == 1
    session.add_all([Address(person_id=uuid.UUID(int=5), street=s) for s in ('x', 'y', 'z')])
    session.flush()
    session.bulk_save_objects([Address(person_id=uuid.UUID(int=6), street='bulk', meta={}) for _ in range(3)])
    session.bulk_insert_mappings(Address, [{'person_id': uuid.UUID(int=6), 'street': 'mapped', 'meta': {'n': n}} for n in range(3)])
    session.flush()
    session.commit()
    op.create_index('ix_address_person_id', 'address', ['person_id'])


def downgrade():
    op.drop_table('address')
