"""percent signs

Revision ID: 4d7a3e61b9c0
Revises: 3c5e90aa1d17
Create Date: 2018-11-23 11:11:11.414141

"""
import sqlalchemy as sa
from alembic import op

revision = '4d7a3e61b9c0'
down_revision = '3c5e90aa1d17'


def upgrade():
    op.add_column('customer', sa.Column('label', sa.Text(), nullable=True))
    op.execute("UPDATE customer SET label = format('%s (%s%%)', name, id * 10 % 7) WHERE email LIKE '%@example.org'")
    op.execute("UPDATE customer SET label = format('%I %L', name, '100%') WHERE email LIKE '%_net%' OR email LIKE '%.net'")
    op.execute("ALTER TABLE purchase ADD CONSTRAINT total_is_whole CHECK (total * 100 % 1 = 0)")
    op.execute("""
        CREATE FUNCTION shout(text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN RAISE NOTICE '% is 100%% right: %', $1, now(); END $$
    """)
    op.execute("SELECT shout(name) FROM customer")
    op.create_check_constraint('email_has_an_at', 'customer', "email LIKE '%@%'")
    op.create_index('ix_customer_example', 'customer', ['name'], postgresql_where=sa.text("email LIKE '%example%'"))
    conn = op.get_bind()
    found = conn.execute(sa.text("SELECT count(*) FROM customer WHERE label LIKE '%\\%%' OR label LIKE '%(_\\%)'")).scalar()
    assert found == 3, found
    modulo = conn.execute(sa.text("SELECT 17 % :by, '%s' || :tail"), {'by': 5, 'tail': '%(x)s'}).fetchone()
    assert tuple(modulo) == (2, '%s%(x)s'), modulo


def downgrade():
    op.drop_constraint('email_has_an_at', 'customer')
    op.drop_column('customer', 'label')
