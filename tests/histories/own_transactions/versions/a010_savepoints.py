"""savepoints, and errors that are let pass

Revision ID: a010
Revises: a009

"""
import sqlalchemy as sa
import sqlalchemy.orm
from alembic import op

revision = 'a010'
down_revision = 'a009'


def upgrade():
    conn = op.get_bind()
    for name in ('ix_account_domain', 'ix_of_an_old_release'):
        try:
            with conn.begin_nested():
                op.execute('DROP INDEX %s' % name)
        except sa.exc.ProgrammingError:
            pass
    op.execute('SAVEPOINT mine')
    try:
        op.execute('ALTER TABLE account DROP COLUMN never_there')
    except sa.exc.DBAPIError:
        op.execute('ROLLBACK TO SAVEPOINT mine')
    op.execute('RELEASE SAVEPOINT mine')
    nested = conn.begin_nested()
    conn.execute(sa.text("UPDATE account SET note = 'rolled back'"))
    nested.rollback()
    with conn.begin_nested():
        conn.execute(sa.text('UPDATE account SET note = :n WHERE id = 50'), {'n': 'nested'})
        with conn.begin_nested() as inner:
            conn.execute(sa.text('DELETE FROM account'))
            inner.rollback()
    session = sa.orm.Session(bind=conn)
    with session.begin_nested():
        session.execute(sa.text("UPDATE account SET note = 'session' WHERE id = 51"))
    session.commit()


def downgrade():
    pass
