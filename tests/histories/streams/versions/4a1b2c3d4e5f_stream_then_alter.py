"""rows streamed from a table that is altered next

Revision ID: 4a1b2c3d4e5f
Revises:
Create Date: 2021-03-03 03:03:03.000000

"""
import sqlalchemy as sa
from alembic import op

revision = '4a1b2c3d4e5f'
down_revision = None


def upgrade():
    op.execute("CREATE TABLE visit (id bigint PRIMARY KEY, at timestamptz NOT NULL, cost numeric)")
    op.execute("INSERT INTO visit SELECT n, '2019-12-24 00:00+00'::timestamptz + n * interval '1 hour', n / 8.0 FROM generate_series(1, 180) n")
    op.add_column('visit', sa.Column('month', sa.String(length=7), nullable=True))
    conn = op.get_bind()
    visits = sa.table('visit', sa.column('id', sa.BigInteger), sa.column('at', sa.TIMESTAMP(timezone=True)), sa.column('month', sa.String))

    # STREAM: every row is read to the end, in parts, while others are written
    for visit in conn.execute(sa.select(visits.c.id, visits.c.at).order_by(visits.c.id), execution_options={'stream_results': True, 'max_row_buffer': 50}):
        conn.execute(visits.update().where(visits.c.id == visit.id).values(month=visit.at.strftime('%Y-%m')))
    op.alter_column('visit', 'month', nullable=False)
    op.create_index('ix_visit_month', 'visit', ['month', 'id'])

    # STREAM: by partitions
    op.add_column('visit', sa.Column('rounded', sa.Integer(), nullable=True))
    for part in conn.execute(sa.text('SELECT id, cost FROM visit WHERE cost IS NOT NULL ORDER BY id').execution_options(yield_per=40)).partitions():
        conn.execute(sa.text('UPDATE visit SET rounded = :rounded WHERE id = :id'), [{'id': row.id, 'rounded': int(row.cost)} for row in part])
    op.alter_column('visit', 'cost', type_=sa.Numeric(10, 3), existing_type=sa.Numeric())


def downgrade():
    op.drop_column('visit', 'rounded')
    op.drop_column('visit', 'month')
