"""strings for arrays, days, times, numbers and uuids

Revision ID: p003
Revises: p002

"""
import sqlalchemy as sa
from alembic import op

revision = 'p003'
down_revision = 'p002'


def upgrade():
    conn = op.get_bind()
    conn.execute(
        sa.text('UPDATE item SET tags = :tags, day = :day, at = :at, amount = :amount, uid = :uid WHERE id = :id'),
        {'tags': '{a,"b c"}', 'day': '2015-05-06', 'at': '2015-05-06 07:08:09+02', 'amount': '77', 'uid': '00000000-0000-0000-0000-000000000001', 'id': '3'},
    )
    item = sa.table('item', sa.column('id'), sa.column('code'), sa.column('amount'), sa.column('day'))
    op.bulk_insert(item, [{'id': 30, 'code': 30, 'amount': '300', 'day': '2016-02-29'}, {'id': 31, 'code': 31, 'amount': None, 'day': None}])
    conn.execute(item.update().where(item.c.id == '30').values(amount='301'))


def downgrade():
    pass
