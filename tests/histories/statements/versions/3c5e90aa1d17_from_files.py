"""views and reports, kept in SQL files

Revision ID: 3c5e90aa1d17
Revises: 2b9d11c04f72
Create Date: 2018-01-08 09:02:10.000211

"""
import os

from alembic import op

revision = '3c5e90aa1d17'
down_revision = '2b9d11c04f72'

HERE = os.path.dirname(os.path.abspath(__file__))


def run_file(name):
    with open(os.path.join(HERE, '..', 'sql', name)) as f:
        op.get_bind().exec_driver_sql(f.read())


def upgrade():
    run_file('3c5e90aa1d17_up.sql')
    with open(os.path.join(HERE, '..', 'sql', '3c5e90aa1d17_grants.sql'), encoding='utf-8') as f:
        op.execute(f.read())


def downgrade():
    op.execute("DROP VIEW purchase_report; DROP FUNCTION slug(text), open_total(integer)")
