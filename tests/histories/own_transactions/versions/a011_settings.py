"""timeouts and a search_path, set and left

Revision ID: a011
Revises: a010

"""
import sqlalchemy as sa
from alembic import op

revision = 'a011'
down_revision = 'a010'


def upgrade():
    op.execute("SET lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout TO '30s'; SET LOCAL synchronous_commit = off")
    op.execute('CREATE SCHEMA billing')
    op.execute('SET search_path TO billing, public')
    op.create_table('invoice', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('account_id', sa.Integer(), sa.ForeignKey('public.account.id')))
    op.execute("SET TIME ZONE 'UTC'; SET client_min_messages TO warning")
    op.get_bind().execute(sa.text("SELECT set_config('lock_timeout', :t, true)"), {'t': '2s'})
    op.execute("INSERT INTO invoice SELECT id, id FROM account WHERE plan IS NOT NULL ORDER BY id")
    op.execute('SET search_path TO DEFAULT')


def downgrade():
    op.execute('DROP SCHEMA billing CASCADE')
