"""parameters of no type

Revision ID: p002
Revises: p001

"""
import json

import sqlalchemy as sa
from alembic import op

revision = 'p002'
down_revision = 'p001'


def upgrade():
    conn = op.get_bind()
    assert conn.execute(sa.text('SELECT :x'), {'x': 'only a word'}).scalar() == 'only a word'
    assert conn.execute(sa.text('SELECT :n + 1'), {'n': 41}).scalar() == 42
    conn.execute(sa.text("INSERT INTO item (id, code, meta) SELECT 21, :code, jsonb_build_object('k', :v)"), {'code': 'x', 'v': 'w'})
    conn.execute(sa.text("UPDATE item SET meta = :meta WHERE (:all IS NULL OR id = 1)"), {'meta': json.dumps({'a': [1, None]}), 'all': 'no'})


def downgrade():
    pass
