"""only where there is something to do

Revision ID: n5
Revises: n4

"""
from alembic import op
import sqlalchemy as sa
import os

revision = 'n5'
down_revision = 'n4'
branch_labels = None
depends_on = None


def upgrade():
    bind = op.get_bind()
    if 'left_over' in sa.inspect(bind).get_table_names():
        op.drop_table('left_over')
    if bind.execute(sa.text("SELECT count(*) FROM tenant WHERE name = 'old'")).scalar():
        op.execute("UPDATE tenant SET name = 'new' WHERE name = 'old'")
    if os.environ.get('TENANTS_OF_THE_DEMO'):
        op.execute("INSERT INTO tenant (name) VALUES ('demo')")


def downgrade():
    pass
