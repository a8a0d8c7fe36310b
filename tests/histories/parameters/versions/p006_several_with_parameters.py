"""several statements with parameters

Revision ID: p006
Revises: p005

"""
import sqlalchemy as sa
from alembic import op

revision = 'p006'
down_revision = 'p005'


def upgrade():
    op.get_bind().execute(
        sa.text("UPDATE item SET code = :to WHERE id = :id; INSERT INTO item (id, code) VALUES (40, :to || '!');"),
        {'to': 'both', 'id': 16},
    )
    op.execute(sa.text("CREATE TABLE copy AS SELECT id, code FROM item WHERE id > :id; ALTER TABLE copy ADD PRIMARY KEY (id)").bindparams(id=16))


def downgrade():
    op.execute('DROP TABLE copy')
