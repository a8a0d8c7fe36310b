"""a dump of another tool, with its own transaction

Revision ID: a007
Revises: a006

"""
from alembic import op

revision = 'a007'
down_revision = 'a006'


def upgrade():
    op.execute("""
        COMMIT;
        BEGIN;
        CREATE TABLE plan (code text PRIMARY KEY, price integer NOT NULL);
        INSERT INTO plan VALUES ('s', 5), ('m', 10);
        COMMIT;
        BEGIN;
        ALTER TABLE account ADD COLUMN plan text REFERENCES plan;
        UPDATE account SET plan = 's' WHERE kind = 'trial';
    """)


def downgrade():
    op.execute('ALTER TABLE account DROP COLUMN plan; DROP TABLE plan')
