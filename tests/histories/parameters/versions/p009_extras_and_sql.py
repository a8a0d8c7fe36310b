"""Json, composed SQL

Revision ID: p009
Revises: p008

"""
import psycopg2.extras
from alembic import op
from psycopg2 import sql
from sqlalchemy import text

revision = 'p009'
down_revision = 'p008'


def upgrade():
    bind = op.get_bind()
    bind.execute(text('UPDATE item SET meta = :meta WHERE id = 70'), {'meta': psycopg2.extras.Json({'a': 'b'})})
    with bind.connection.cursor() as cursor:
        for column in ('code', 'amount'):
            cursor.execute(sql.SQL('CREATE INDEX {} ON {} ({})').format(
                sql.Identifier('ix_item_' + column), sql.Identifier('item'), sql.Identifier(column)))
        cursor.execute(sql.SQL('UPDATE item SET code = {} WHERE id = 71').format(sql.Literal("it's; 100%")))


def downgrade():
    op.drop_index('ix_item_amount')
    op.drop_index('ix_item_code')
