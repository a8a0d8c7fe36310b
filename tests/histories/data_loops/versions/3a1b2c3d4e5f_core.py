"""Core, with tables as light as can be, and many rows at once

Revision ID: 3a1b2c3d4e5f
Revises: 2a1b2c3d4e5f
Create Date: 2019-12-24 14:00:00.000000

"""
import datetime
import uuid
from decimal import Decimal

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import column, table

revision = '3a1b2c3d4e5f'
down_revision = '2a1b2c3d4e5f'

people = table(
    'people',
    column('id', postgresql.UUID(as_uuid=True)),
    column('serial', sa.Integer),
    column('name', sa.String),
    column('tags', postgresql.ARRAY(sa.String)),
    column('scores', postgresql.ARRAY(sa.Integer)),
    column('profile', postgresql.JSONB),
    column('salary', sa.Numeric(14, 4)),
    column('seen_at', sa.DateTime(timezone=True)),
    column('sleeps', sa.Interval),
    column('photo', sa.LargeBinary),
    column('mood', sa.Enum('calm', 'cross', name='mood')),
    column('address', postgresql.INET),
    column('ages', postgresql.INT4RANGE),
    column('external', postgresql.UUID(as_uuid=False)),
)


def upgrade():
    op.create_table(
        'visit',
        sa.Column('id', sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column('person_id', postgresql.UUID(as_uuid=True), sa.ForeignKey('people.id')),
        sa.Column('at', sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column('cost', sa.Numeric(), nullable=True),
        sa.Column('period', postgresql.TSTZRANGE(), nullable=True),
    )
    visit = table('visit', column('person_id', postgresql.UUID(as_uuid=True)), column('at', sa.TIMESTAMP(timezone=True)), column('cost', sa.Numeric), column('period', postgresql.TSTZRANGE))
    conn = op.get_bind()
    start = datetime.datetime(2019, 12, 24, tzinfo=datetime.timezone.utc)
    # executemany, of Core and of text
    conn.execute(visit.insert(), [{'person_id': uuid.UUID(int=1 + n % 30), 'at': start + datetime.timedelta(hours=n), 'cost': Decimal(n) / 8} for n in range(200)])
    conn.execute(
        sa.text('INSERT INTO visit (person_id, at, cost) VALUES (:person, :at, :cost)'),
        [{'person': uuid.UUID(int=3), 'at': start, 'cost': None}, {'person': uuid.UUID(int=4), 'at': start, 'cost': Decimal('1.10')}],
    )
    conn.execute(
        people.update().where(people.c.serial == sa.bindparam('which')).values(mood=sa.bindparam('how')),
        [{'which': n, 'how': 'cross' if n % 2 else 'calm'} for n in range(10, 20)],
    )
    conn.execute(visit.insert().from_select(['person_id', 'at'], sa.select(people.c.id, people.c.seen_at).where(people.c.seen_at.isnot(None))))

    conn.execute(people.update().where(people.c.id == uuid.UUID(int=3)).values(
        tags=['x', 'ü'], scores=[7], profile={'k': [1]}, salary=Decimal('1.5'), seen_at=start, sleeps=datetime.timedelta(hours=8),
        photo=b'\x00\xff', mood='calm', address='192.168.0.1/24', external=str(uuid.UUID(int=77)), ages=postgresql.Range(1, 5),
    ))
    conn.execute(people.update().where(people.c.serial.in_([20, 21, 22])).values(tags=sa.func.array_append(people.c.tags, 'late')))
    conn.execute(people.update().where(people.c.tags.contains(['late'])).values(scores=[9, 9]))
    conn.execute(people.update().where(people.c.serial.between(25, 27)).values(profile=sa.func.jsonb_build_object('serial', people.c.serial, 'at', '12:30')))

    row = conn.execute(sa.select(people).where(people.c.serial == 1)).mappings().one()
    assert row['tags'] == ['a', 'b c', 'd"e', "f'g", 'h\\i', '{x,y}'], row['tags']
    assert row['scores'] == [1, None, 3] and row['profile']['moved'] is True
    assert row['salary'] == Decimal('12345.6789') and isinstance(row['salary'], Decimal)
    assert row['seen_at'] == datetime.datetime(2018, 6, 1, 10, 0, 0, 123456, tzinfo=datetime.timezone.utc)
    assert row['sleeps'] == datetime.timedelta(days=1, hours=7, seconds=3, microseconds=5)
    assert bytes(row['photo']) == bytes(range(256)) and row['mood'] == 'calm'
    assert row['id'] == uuid.UUID(int=1) and row['external'] == str(uuid.UUID(int=2**100))
    assert row['ages'] == postgresql.Range(1, 2)

    stmt = postgresql.insert(sa.table('people', column('id', postgresql.UUID(as_uuid=True)), column('serial', sa.Integer), column('name', sa.String), column('first_name', sa.String)))
    stmt = stmt.values(id=uuid.UUID(int=30), serial=30, name='upserted', first_name='up').on_conflict_do_update(index_elements=['id'], set_={'name': stmt.excluded.name})
    conn.execute(stmt)
    counted = dict(conn.execute(sa.select(people.c.mood, sa.func.count()).group_by(people.c.mood)).fetchall())
    assert counted == {None: 18, 'calm': 7, 'cross': 5}, counted
    op.execute(people.update().where(people.c.serial == op.inline_literal(29)).values({'name': op.inline_literal("it's 29")}))
    op.execute(people.delete().where(people.c.serial == 28).where(~people.c.id.in_(sa.select(visit.c.person_id))))


def downgrade():
    op.drop_table('visit')
