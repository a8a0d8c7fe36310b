"""seed, and triggers written by hand

Revision ID: 2b9d11c04f72
Revises: 1f0c2a7be301
Create Date: 2017-05-19 16:40:01.102233

"""
from alembic import op

revision = '2b9d11c04f72'
down_revision = '1f0c2a7be301'


def upgrade():
    op.execute("""
        INSERT INTO customer (id, name, email, created_at) VALUES
            (1, 'Ann; the first', 'ann@example.org', '2017-01-01 12:00:00+00'),
            (2, 'Bob''s -- not a comment', 'bob@example.org', '2017-01-02T12:30:00Z'),
            (3, E'Cy\\'s \\; tab\\there', 'cy@example.net', '2017-01-03 00:00:00+01:00');
        INSERT INTO purchase (id, customer_id, total, state) VALUES (1, 1, 10.50, 'open'), (2, 1, 3, 'paid');
        INSERT INTO purchase (id, customer_id, total, state)
            SELECT n, 2 + n % 2, n * 1.25, 'sent' FROM generate_series(3, 12) AS n;
        /* the sequences do not know /* nested; */ of the rows above; */
        SELECT setval('customer_id_seq', (SELECT max(id) FROM customer));
        SELECT setval('purchase_id_seq', (SELECT max(id) FROM purchase));
    """)
    op.execute("""
        CREATE FUNCTION touch() RETURNS trigger AS $$
        BEGIN
            NEW.created_at := '2017-05-19 00:00:00+00'::timestamptz;  -- a ; in a comment
            IF NEW.name LIKE '%;%' THEN
                NEW.settings := NEW.settings || '{"semicolon": true}'::jsonb;
            END IF;
            RETURN NEW;
        END;
        $$ LANGUAGE plpgsql;

        CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON customer FOR EACH ROW EXECUTE PROCEDURE touch();
    """)
    op.execute("UPDATE customer SET name = name || '!'")


def downgrade():
    op.execute("DROP TRIGGER touch ON customer; DROP FUNCTION touch();")
