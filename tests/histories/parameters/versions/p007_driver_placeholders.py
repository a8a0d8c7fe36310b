"""the driver's own placeholders

Revision ID: p007
Revises: p006

"""
from alembic import op

revision = 'p007'
down_revision = 'p006'


def upgrade():
    conn = op.get_bind()
    conn.exec_driver_sql('UPDATE item SET code = %s WHERE id = %s', ('placed', 17))
    conn.exec_driver_sql('UPDATE item SET amount = %(amount)s WHERE id = %(id)s', {'amount': 18, 'id': 18})
    conn.exec_driver_sql('INSERT INTO item (id, code) VALUES (%s, %s)', [(50, 'many'), (51, 'too')])
    conn.exec_driver_sql("UPDATE item SET code = format('%%s-%%s', id, amount) WHERE id = 19")


def downgrade():
    pass
