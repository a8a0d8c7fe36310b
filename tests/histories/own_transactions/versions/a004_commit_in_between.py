"""commit() between batches

Revision ID: a004
Revises: a003

"""
import sqlalchemy as sa
from alembic import op

revision = 'a004'
down_revision = 'a003'


def upgrade():
    op.add_column('account', sa.Column('domain', sa.String(200)))
    conn = op.get_bind()
    conn.commit()
    while True:
        done = conn.execute(sa.text(
            "UPDATE account SET domain = split_part(email, '@', 2) WHERE id IN "
            "(SELECT id FROM account WHERE domain IS NULL ORDER BY id LIMIT :n)"), {'n': 30}).rowcount
        conn.commit()
        if not done:
            break
    op.alter_column('account', 'domain', nullable=False)


def downgrade():
    op.drop_column('account', 'domain')
