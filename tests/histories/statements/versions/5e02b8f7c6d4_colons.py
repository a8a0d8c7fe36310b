"""colons, casts, JSON and times

Revision ID: 5e02b8f7c6d4
Revises: 4d7a3e61b9c0
Create Date: 2019-04-01 08:00:00.000000

"""
from alembic import op
from sqlalchemy import text

revision = '5e02b8f7c6d4'
down_revision = '4d7a3e61b9c0'


def upgrade():
    op.execute("ALTER TABLE customer ALTER COLUMN opens_at SET DEFAULT '12:00'")
    op.execute("UPDATE customer SET opens_at = '09:30:15'::time, settings = settings || '{\"a\": {\"b\": [1, 2]}}'::jsonb")
    op.execute(text("UPDATE customer SET settings = settings || '{\"tight\"\\:1, \"url\"\\: \"https\\://example.org\\:8080/x\"}'"))
    op.execute(text("UPDATE customer SET opens_at = (:hour || '\\:45')::time WHERE id = :id").bindparams(hour='10', id=2))
    op.execute("""CREATE FUNCTION between_times(integer[]) RETURNS integer[] LANGUAGE sql IMMUTABLE AS 'SELECT $1[2:3]'""")
    op.execute("""
        CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE plpgsql AS $$
        DECLARE answer int;
        BEGIN
            answer:=n*2;
            answer := answer::bigint::int;
            RETURN answer;
        END $$
    """)
    op.execute("UPDATE customer SET settings = jsonb_set(settings, '{doubled}', to_jsonb(doubled(id)))")
    conn = op.get_bind()
    rows = conn.execute(text("SELECT settings->'url' AS url, settings #>> '{a,b,0}' AS first FROM customer ORDER BY id")).mappings().all()
    assert [row['url'] for row in rows] == ['https://example.org:8080/x'] * 3, rows
    assert {row['first'] for row in rows} == {'1'}, rows
    assert conn.execute(text("SELECT settings ? 'tight' FROM customer WHERE id = 1")).scalar() is True
    assert conn.execute(text("SELECT (between_times(ARRAY[1, 2, 3]))[1 \\: 1]")).scalar() == [2]


def downgrade():
    op.execute("DROP FUNCTION doubled(int); DROP FUNCTION between_times(integer[])")
