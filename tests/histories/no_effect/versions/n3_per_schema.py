"""a table in each schema that is named

Revision ID: n3
Revises: n2

"""
from alembic import op
import sqlalchemy as sa
from alembic import context

revision = 'n3'
down_revision = 'n2'
branch_labels = None
depends_on = None


def upgrade():
    for schema in context.get_x_argument(as_dictionary=True).get('schemas', '').split():
        op.create_table('setting', sa.Column('key', sa.Text(), primary_key=True), schema=schema)


def downgrade():
    pass
