"""how long a price is valid

Revision ID: f001
Revises:

"""
import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = 'f001'
down_revision = None


def upgrade():
    price = op.create_table('price',
        sa.Column('id', sa.Integer(), primary_key=True),
        sa.Column('since', sa.Date(), nullable=False),
        sa.Column('until', sa.DateTime(timezone=True), nullable=False),
        sa.Column('local_until', sa.DateTime(), nullable=False),
        sa.Column('holidays', postgresql.ARRAY(sa.Date()), nullable=True),
        sa.Column('stay', postgresql.DATERANGE(), nullable=True),
    )
    never, utc = datetime.datetime.max, datetime.timezone.utc
    op.bulk_insert(price, [{'id': 1, 'since': datetime.date.min, 'until': never.replace(tzinfo=utc), 'local_until': never}])
    summer = datetime.timezone(datetime.timedelta(hours=2))
    op.bulk_insert(price, [{
        'id': 2,
        'since': datetime.date(1582, 10, 15),
        'until': datetime.datetime(2017, 7, 1, 0, 30, 0, 999999, tzinfo=summer),
        'local_until': datetime.date(1999, 12, 31),
        'holidays': [datetime.date.max, datetime.date(2000, 1, 1), None],
        'stay': postgresql.Range(datetime.date(1969, 7, 20), datetime.date.max),
    }])
    bind = op.get_bind()
    first, second = bind.execute(price.select().order_by(price.c.id)).all()
    assert (first.since, first.until, first.local_until) == (datetime.date.min, never.replace(tzinfo=utc), never)
    assert second.until == datetime.datetime(2017, 6, 30, 22, 30, 0, 999999, tzinfo=utc)
    assert second.local_until == datetime.datetime(1999, 12, 31)
    assert second.holidays == [datetime.date.max, datetime.date(2000, 1, 1), None]
    assert second.stay == postgresql.Range(datetime.date(1969, 7, 20), datetime.date.max)


def downgrade():
    op.drop_table('price')
