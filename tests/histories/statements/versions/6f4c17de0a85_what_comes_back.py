"""what comes back of a statement

Revision ID: 6f4c17de0a85
Revises: 5e02b8f7c6d4
Create Date: 2020-02-29 23:59:59.999999

"""
import datetime
from decimal import Decimal

import sqlalchemy as sa
from alembic import op

revision = '6f4c17de0a85'
down_revision = '5e02b8f7c6d4'


def upgrade():
    bind = op.get_bind()
    op.create_table('audit', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('what', sa.Text()), sa.Column('rows', sa.Integer()))
    audit = sa.table('audit', sa.column('what', sa.Text), sa.column('rows', sa.Integer), sa.column('id', sa.Integer))

    def note(what, rows):
        bind.execute(audit.insert().values(what=what, rows=rows))

    # rowcount, with parameters and without, in text and in Core
    note('text', bind.execute(sa.text("UPDATE purchase SET archived = true WHERE state = 'sent'")).rowcount)
    note('params', bind.execute(sa.text("UPDATE purchase SET archived = false WHERE id > :id"), {'id': 10}).rowcount)
    note('driver', bind.exec_driver_sql("UPDATE customer SET archived = id = 3").rowcount)
    purchase = sa.table('purchase', sa.column('id', sa.Integer), sa.column('state', sa.String), sa.column('total', sa.Numeric))
    note('core', bind.execute(purchase.update().where(purchase.c.id == 12).values(total=99)).rowcount)
    note('nothing', bind.execute(purchase.delete().where(purchase.c.id == 4711)).rowcount)
    note('delete', bind.execute(sa.text('DELETE FROM purchase WHERE id = 11')).rowcount)

    # rows
    assert bind.execute(sa.text('SELECT count(*) FROM purchase')).scalar() == 11
    assert bind.execute(sa.text('SELECT max(total) FROM purchase')).scalar_one() == Decimal('99.00')
    first = bind.execute(sa.text('SELECT id, name, created_at FROM customer ORDER BY id')).first()
    assert first.id == 1 and first[1] == 'Ann; the first!' and first.created_at == datetime.datetime(2017, 5, 19, tzinfo=datetime.timezone.utc)
    assert [tuple(r) for r in bind.execute(sa.text("SELECT 1, 'a;b' UNION ALL SELECT 2, NULL")).fetchall()] == [(1, 'a;b'), (2, None)]
    assert bind.execute(sa.text('SELECT id FROM customer WHERE false')).fetchone() is None
    assert bind.execute(sa.text('SELECT id FROM customer ORDER BY id')).scalars().all() == [1, 2, 3]
    assert dict(bind.execute(sa.text('SELECT id, archived FROM customer')).fetchall()) == {1: False, 2: False, 3: True}
    assert bind.execute(sa.text('SELECT opens_at FROM customer WHERE id = 2')).scalar() == datetime.time(10, 45)
    (pair,) = bind.execute(sa.text("SELECT id AS one, name AS two FROM customer WHERE id = :i"), {'i': 3}).mappings()
    assert dict(pair) == {'one': 3, 'two': "Cy's ; tab\there!"}, dict(pair)
    # a ; inside of the one statement that asks
    assert bind.execute(sa.text("SELECT split_part('a;b;c', ';', 2)")).scalar() == 'b'
    assert bind.execute(sa.text("SELECT array_agg(total ORDER BY id) FROM purchase WHERE id < 4")).scalar() == [Decimal('10.50'), Decimal('3.00'), Decimal('3.75')]
    assert bind.execute(sa.text("SELECT current_date, interval '1 day', ';'")).first()[1] == datetime.timedelta(days=1)

    # RETURNING
    new = bind.execute(sa.text("INSERT INTO customer (name, email) VALUES ('Di', 'di@example.com') RETURNING id, name")).first()
    note('returning', new.id)
    pk = bind.execute(audit.insert().values(what='core returning', rows=0).returning(audit.c.id)).scalar_one()
    bind.execute(audit.update().where(audit.c.id == pk).values(rows=pk))
    gone = bind.execute(sa.text("DELETE FROM purchase WHERE id IN (9, 10) RETURNING total")).scalars().all()
    note('gone', len(gone))
    moved = bind.execute(sa.text("WITH m AS (UPDATE purchase SET state = 'paid' WHERE state = 'open' RETURNING id) SELECT count(*) FROM m")).scalar()
    note('with', moved)

    inspector = sa.inspect(bind)
    assert {'audit', 'customer', 'purchase', 'Größe'} <= set(inspector.get_table_names())
    assert 'archived' in [c['name'] for c in inspector.get_columns('purchase')]
    assert [i['name'] for i in inspector.get_indexes('customer')] == ['ix_customer_email', 'ix_customer_example']
    assert inspector.get_foreign_keys('purchase')[0]['referred_table'] == 'customer'


def downgrade():
    op.drop_table('audit')
