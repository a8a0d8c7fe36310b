"""autocommit blocks

Revision ID: a008
Revises: a007

"""
import sqlalchemy as sa
from alembic import op

revision = 'a008'
down_revision = 'a007'


def upgrade():
    op.add_column('account', sa.Column('note', sa.Text(), server_default='it is'))
    with op.get_context().autocommit_block():
        op.create_index('ix_account_email', 'account', ['email'], unique=True, postgresql_concurrently=True)
        op.execute("ALTER TYPE account_kind ADD VALUE 'staff' BEFORE 'paid'")
        op.execute(sa.text("UPDATE account SET note = :n WHERE id < 5").bindparams(n='in a block'))
    op.execute("INSERT INTO account (kind, email, domain) VALUES ('staff', 'root@example.org', 'example.org')")
    with op.get_context().autocommit_block():
        op.execute('DROP INDEX CONCURRENTLY IF EXISTS ix_account_domain')
        op.execute('CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_account_domain ON account (domain, kind)')
        op.execute('VACUUM account')


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index('ix_account_email', postgresql_concurrently=True)
    op.drop_column('account', 'note')
