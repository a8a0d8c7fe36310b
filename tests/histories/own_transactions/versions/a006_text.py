"""BEGIN, COMMIT and ROLLBACK as text

Revision ID: a006
Revises: a005

"""
from alembic import op

revision = 'a006'
down_revision = 'a005'


def upgrade():
    op.execute('COMMIT')
    op.execute('BEGIN')
    op.execute('CREATE TABLE kept (id int)')
    op.execute('COMMIT')
    op.execute('BEGIN')
    op.execute('CREATE TABLE lost (id int)')
    op.execute('ROLLBACK')
    op.execute("BEGIN; INSERT INTO kept VALUES (1); COMMIT; BEGIN; INSERT INTO kept VALUES (2)")
    op.execute("INSERT INTO kept VALUES (3)")


def downgrade():
    op.execute('DROP TABLE kept')
