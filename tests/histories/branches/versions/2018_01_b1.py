"""the first base

Revision ID: b1
Revises: 

"""
from alembic import op
import sqlalchemy as sa

revision = 'b1'
down_revision = None
branch_labels = ('main',)
depends_on = None


def upgrade():
    op.execute('CREATE TABLE trail (id serial PRIMARY KEY, revision text NOT NULL)')
    op.execute("INSERT INTO trail (revision) VALUES ('b1')")


def downgrade():
    pass
