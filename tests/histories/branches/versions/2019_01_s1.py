"""the second base: search

Revision ID: s1
Revises: 

"""
from alembic import op
import sqlalchemy as sa

revision = 's1'
down_revision = None
branch_labels = ('search',)
depends_on = 'b1'


def upgrade():
    op.execute('CREATE SCHEMA search')
    op.execute("INSERT INTO trail (revision) VALUES ('s1')")


def downgrade():
    pass
