"""an int beside a varchar, a varchar that becomes an integer

Revision ID: p004
Revises: p003

"""
import sqlalchemy as sa
from alembic import op

revision = 'p004'
down_revision = 'p003'


def upgrade():
    conn = op.get_bind()
    item = sa.table('item', sa.column('id', sa.Integer), sa.column('code', sa.String), sa.column('amount', sa.String))
    conn.execute(item.update().where(item.c.id == 5).values(amount='55'))
    conn.execute(sa.text('UPDATE item SET code = :code WHERE id = 7'), {'code': 7007})
    conn.execute(sa.text('UPDATE item SET amount = :a WHERE code = CAST(:c AS varchar)'), {'a': 8008, 'c': 8})


def downgrade():
    pass
