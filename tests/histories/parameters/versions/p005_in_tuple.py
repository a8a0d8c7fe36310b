"""IN with a tuple, ANY with a list

Revision ID: p005
Revises: p004

"""
import sqlalchemy as sa
from alembic import op

revision = 'p005'
down_revision = 'p004'


def upgrade():
    conn = op.get_bind()
    conn.execute(sa.text('DELETE FROM item WHERE id IN :ids'), {'ids': (11, 12)})
    conn.execute(sa.text('DELETE FROM item WHERE code IN :codes'), {'codes': ('13', "it's")})
    conn.execute(sa.text('DELETE FROM item WHERE id = ANY(:ids)'), {'ids': [14, 15]})


def downgrade():
    pass
