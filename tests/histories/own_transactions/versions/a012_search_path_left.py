"""a search_path that is left as it is set

Revision ID: a012
Revises: a011

"""
from alembic import op

revision = 'a012'
down_revision = 'a011'


def upgrade():
    op.execute('SET LOCAL search_path = billing')
    op.execute('CREATE TABLE payment (id int PRIMARY KEY, at time DEFAULT \'12:00\')')
    op.execute('ALTER TABLE invoice ADD COLUMN payment_id int REFERENCES payment')
    op.execute('SET LOCAL search_path = billing, public')


def downgrade():
    op.execute('DROP TABLE billing.payment')
