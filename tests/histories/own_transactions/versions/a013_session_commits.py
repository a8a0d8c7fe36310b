"""a Session that commits in its loop

Revision ID: a013
Revises: a012

"""
from alembic import op
from sqlalchemy import text
from sqlalchemy.orm import sessionmaker

revision = 'a013'
down_revision = 'a012'

Session = sessionmaker()


def upgrade():
    op.execute("ALTER TABLE account ADD COLUMN seq int")
    session = Session(bind=op.get_bind())
    for n, (id_,) in enumerate(session.execute(text('SELECT id FROM account ORDER BY id')).fetchall()):
        session.execute(text('UPDATE account SET seq = :n WHERE id = :i'), {'n': n, 'i': id_})
        if n % 40 == 0:
            session.commit()
    session.commit()
    op.execute('ALTER TABLE account ALTER COLUMN seq SET NOT NULL')


def downgrade():
    op.execute('ALTER TABLE account DROP COLUMN seq')
