"""merge search into main

Revision ID: m8
Revises: b7, s3

"""
from alembic import op
import sqlalchemy as sa

revision = 'm8'
down_revision = ('b7', 's3')
branch_labels = None
depends_on = None


def upgrade():
    op.create_foreign_key(None, 'ticket', 'invoice', ['id'], ['id'])
    op.execute("INSERT INTO trail (revision) VALUES ('m8')")


def downgrade():
    pass
