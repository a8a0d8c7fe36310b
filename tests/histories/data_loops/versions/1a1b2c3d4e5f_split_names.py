"""split names, row by row

Revision ID: 1a1b2c3d4e5f
Revises: 0a1b2c3d4e5f
Create Date: 2018-09-12 14:00:00.000000

"""
import sqlalchemy as sa
from alembic import op

revision = '1a1b2c3d4e5f'
down_revision = '0a1b2c3d4e5f'


def upgrade():
    op.add_column('people', sa.Column('first_name', sa.String(length=80), nullable=True))
    op.add_column('people', sa.Column('initials', sa.String(length=8), nullable=True))
    connection = op.get_bind()
    for row in connection.execute(sa.text('SELECT id, name FROM people ORDER BY serial')):
        first = row.name.split(' ')[0]
        connection.execute(sa.text('UPDATE people SET first_name = :first WHERE id = :id'), {'first': first, 'id': row.id})
    people = sa.Table('people', sa.MetaData(), autoload_with=connection)
    for row in connection.execute(sa.select(people.c.id, people.c.name).order_by(people.c.serial)).fetchall():
        initials = ''.join(word[0] for word in row[1].split() if word[0].isalpha())[:8]
        connection.execute(people.update().where(people.c.id == row[0]).values(initials=initials))
    op.alter_column('people', 'first_name', nullable=False)


def downgrade():
    op.drop_column('people', 'initials')
    op.drop_column('people', 'first_name')
