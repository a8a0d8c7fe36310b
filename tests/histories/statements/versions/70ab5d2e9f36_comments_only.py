"""leftovers: strings of nothing, trailing semicolons, one statement twice

Revision ID: 70ab5d2e9f36
Revises: 6f4c17de0a85
Create Date: 2023-09-14 15:30:00.123456

"""
from alembic import op

revision = '70ab5d2e9f36'
down_revision = '6f4c17de0a85'

STATEMENTS = """
CREATE TABLE tag (id serial PRIMARY KEY, name text UNIQUE);
INSERT INTO tag (name) VALUES ('new');

INSERT INTO tag (name) VALUES ('old') ON CONFLICT DO NOTHING;
"""


def upgrade():
    op.execute("-- 2023-09-14: nothing to do in production any more\nSELECT 1;")
    # split by hand, as one does for a driver that takes one statement at a time
    for statement in STATEMENTS.split(';'):
        if statement.strip():
            op.execute(statement)
    op.execute("INSERT INTO tag (name) VALUES ('a'), ('b');;  ;")
    op.execute("ALTER TYPE purchase_state RENAME TO order_state")
    op.execute("""ALTER TABLE purchase ALTER COLUMN state SET DEFAULT 'open'; -- and that was that;""")
    op.execute("COMMENT ON TABLE tag IS $c$what's it; $1 %s :x -- /* $c$".replace(':x', '\\:x'))
    op.execute(r"INSERT INTO tag (name) VALUES ('back\\slash'), (E'new\nline'), ('C\:\\dir')".replace('\\\\', '\\'))


def downgrade():
    pass
