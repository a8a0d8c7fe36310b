"""sample data, if asked for

Revision ID: n2
Revises: n1

"""
from alembic import op
import sqlalchemy as sa
from alembic import context

revision = 'n2'
down_revision = 'n1'
branch_labels = None
depends_on = None


def upgrade():
    if context.get_x_argument(as_dictionary=True).get('data') == 'true':
        op.bulk_insert(sa.table('tenant', sa.column('name')), [{'name': 'sample'}])


def downgrade():
    pass
