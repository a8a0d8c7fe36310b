"""a dry run that is rolled back, then the real one

Revision ID: a005
Revises: a004

"""
import sqlalchemy as sa
from alembic import op

revision = 'a005'
down_revision = 'a004'


def upgrade():
    conn = op.get_bind()
    conn.commit()
    conn.execute(sa.text("UPDATE account SET email = 'lost'"))
    conn.rollback()
    assert conn.execute(sa.text("SELECT count(*) FROM account WHERE email = 'lost'")).scalar() == 0
    conn.execute(sa.text('UPDATE account SET email = upper(email) WHERE id = 1'))
    op.create_index('ix_account_domain', 'account', ['domain'])


def downgrade():
    op.drop_index('ix_account_domain')
