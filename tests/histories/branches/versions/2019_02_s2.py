"""index the tickets

Revision ID: s2
Revises: s1

"""
from alembic import op
import sqlalchemy as sa

revision = 's2'
down_revision = 's1'
branch_labels = None
depends_on = ('b5',)


def upgrade():
    op.execute('CREATE TABLE search.ticket AS SELECT id, title FROM ticket')
    op.execute("INSERT INTO trail (revision) VALUES ('s2')")


def downgrade():
    pass
