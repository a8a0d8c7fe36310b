"""the raw cursor: execute_values, COPY, mogrify

Revision ID: p008
Revises: p007

"""
import io

from alembic import op
from psycopg2.extras import DictCursor, execute_batch, execute_values

revision = 'p008'
down_revision = 'p007'


def upgrade():
    raw = op.get_bind().connection
    cursor = raw.cursor()
    execute_values(cursor, 'INSERT INTO item (id, code, tags) VALUES %s', [(n, 'v%d' % n, ['x', str(n)]) for n in range(60, 70)])
    execute_batch(cursor, 'UPDATE item SET amount = %s WHERE id = %s', [(n, n) for n in range(60, 65)])
    cursor.copy_expert('COPY item (id, code) FROM STDIN WITH CSV', io.StringIO('70,"from; a file"\n71,%s\n'))
    assert cursor.mogrify('SELECT %s', ("it's",)) == b"SELECT 'it''s'"
    cursor.close()
    with raw.cursor(cursor_factory=DictCursor) as cur:
        cur.execute('SELECT id, code FROM item WHERE id > %s ORDER BY id', (69,))
        assert [row['code'] for row in cur.fetchall()] == ['from; a file', '%s']


def downgrade():
    pass
