"""a stream that is left before its end, and its table altered all the same

Revision ID: 5a1b2c3d4e5f
Revises: 4a1b2c3d4e5f
Create Date: 2021-03-04 03:03:03.000000

"""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

revision = '5a1b2c3d4e5f'
down_revision = '4a1b2c3d4e5f'


def upgrade():
    conn = op.get_bind()
    # STREAM: left in the middle; whoever closes the result closes its portal
    result = conn.execution_options(stream_results=True).execute(sa.text('SELECT id FROM visit ORDER BY id'))
    first = result.fetchmany(3)
    result.close()
    conn.execution_options(stream_results=False)
    assert len(first) == 3
    op.add_column('visit', sa.Column('note', sa.Text(), server_default='', nullable=False))

    # STREAM: the ORM's own
    session = Session(bind=conn)
    for visit_id, in session.execute(sa.text('SELECT id FROM visit ORDER BY id'), execution_options={'yield_per': 64}):
        if visit_id % 50 == 0:
            session.execute(sa.text("UPDATE visit SET note = note || :n WHERE id = :id"), {'n': 'fifty', 'id': visit_id})
    session.flush()
    op.drop_column('visit', 'rounded')


def downgrade():
    op.drop_column('visit', 'note')
