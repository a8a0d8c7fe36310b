"""A history of 600 revisions, as a product gathers them in some years: written anew for each use, and always the same.

It has what real ones have beside columns: indexes, constraints, enums, views, functions, triggers, data loops, renames;
two branches and their merge now and then, and an autocommit block in every fiftieth revision.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REVISIONS = 600
_BRANCHES, _BLOCKS = 37, 50
"""Every how many revisions the history branches, and leaves its transaction."""
_MOST_TABLES, _ROWS = 40, 20
_NOUNS = ("account", "invoice", "line", "product", "stock", "order", "parcel", "note")
_TYPES = (
    "sa.String(length=50)",
    "sa.Integer()",
    "sa.Boolean(), server_default=sa.text('false')",
    "sa.DateTime(timezone=True), server_default='2020-01-01 12:00:00+00'",
    "postgresql.JSONB(), server_default=sa.text(\"'{}'::jsonb\")",
    "sa.Numeric(10, 2)",
    "postgresql.ARRAY(sa.Text())",
    "postgresql.UUID()",
)


@dataclass
class _Table:
    name: str
    columns: list[str] = field(default_factory=list)
    """Those that came after its first revision, the newest last; all else is as it was created."""


@dataclass
class _Product:
    """What the history has made so far."""

    tables: list[_Table] = field(default_factory=list)
    enums: list[str] = field(default_factory=list)


def write(folder: Path) -> None:
    """Write its revisions into `versions/` of a folder."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    product, heads, parent = _Product(), list[str](), ""
    for number in range(REVISIONS):
        revision = hashlib.sha256(str(number).encode()).hexdigest()[:12]
        place = number % _BRANCHES
        if number > _BRANCHES and place == 1:  # beside the one before
            parents, before = [parent], heads
            body = _add_column(product, number, product.tables[1])
            heads = [*before, revision]
        else:
            parents = heads
            body = "pass" if len(parents) > 1 else _body(product, number, branches=place == 0)
            heads = [revision]
        parent = parents[0] if parents else ""
        text = _REVISION.format(
            number=number, revision=revision, down=_down(parents), body="\n".join(f"    {it}" for it in body.split("\n"))
        )
        (versions / f"{revision}_{number}.py").write_text(text)


_REVISION = '''"""Change {number}

Revision ID: {revision}

"""
from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = {revision!r}
down_revision = {down}
branch_labels = None
depends_on = None


def upgrade():
{body}


def downgrade():
    pass
'''


def _down(parents: list[str]) -> str:
    match parents:
        case []:
            return "None"
        case [one]:
            return repr(one)
    return repr(tuple(parents))


def _body(product: _Product, number: int, *, branches: bool) -> str:
    if len(product.tables) < 2 or (number % 7 == 0 and len(product.tables) < _MOST_TABLES):
        return _create_table(product, number)
    if branches:
        return _add_column(product, number, product.tables[0])
    table = product.tables[number * 5 % len(product.tables)]
    if number % _BLOCKS == 0:
        return (
            "with op.get_context().autocommit_block():\n"
            f"    op.create_index('ix_block_{number}', '{table.name}', ['name'], postgresql_concurrently=True)"
        )
    return _KINDS[number % len(_KINDS)](product, number, table)


def _create_table(product: _Product, number: int) -> str:
    table = _Table(f"{_NOUNS[number % len(_NOUNS)]}_{number}")
    product.tables.append(table)
    return f"""table = op.create_table('{table.name}',
sa.Column('id', sa.Integer(), nullable=False),
sa.Column('name', sa.String(length=80), nullable=True),
sa.Column('total', sa.Integer(), nullable=True),
sa.PrimaryKeyConstraint('id', name=op.f('pk_{table.name}'))
)
op.bulk_insert(table, [{{'id': n, 'name': 'n%s of {number}' % n, 'total': n * {number}}} for n in range({_ROWS})])"""


def _add_column(_: _Product, number: int, table: _Table) -> str:
    table.columns.append(f"c{number}")
    return f"op.add_column('{table.name}', sa.Column('c{number}', {_TYPES[number % len(_TYPES)]}))"


def _index(_: _Product, number: int, table: _Table) -> str:
    where = ", postgresql_where=sa.text(\"name LIKE '%1%'\")" if number % 2 else ", unique=True"
    return f"op.create_index(op.f('ix_{number}'), '{table.name}', ['name', 'id']{where})"


def _loop(_: _Product, number: int, table: _Table) -> str:
    return f"""bind = op.get_bind()
for row in bind.execute(sa.text('SELECT id, name FROM "{table.name}" ORDER BY id')).fetchall():
    if row.id % 3 == {number % 3}:
        bind.execute(sa.text('UPDATE "{table.name}" SET name = :n WHERE id = :i'), {{'n': row.name + '+', 'i': row.id}})"""


def _core(_: _Product, number: int, table: _Table) -> str:
    return f"""t = sa.table('{table.name}', sa.column('id', sa.Integer), sa.column('total', sa.Integer))
changed = op.get_bind().execute(t.update().where(t.c.id < {number % _ROWS}).values(total=t.c.total + 1)).rowcount
assert changed == {number % _ROWS}, changed"""


def _function(_: _Product, number: int, table: _Table) -> str:
    return f'''op.execute("""
    CREATE FUNCTION stamp_{number}() RETURNS trigger AS $$
    BEGIN
        NEW.total := coalesce(NEW.total, 0) + 1;  -- one more; always
        RETURN NEW;
    END;
    $$ LANGUAGE plpgsql;
    CREATE TRIGGER stamp_{number} BEFORE UPDATE ON {table.name} FOR EACH ROW
        WHEN (OLD.id % 10 = {number % 10}) EXECUTE FUNCTION stamp_{number}();
""")'''


def _view(_: _Product, number: int, table: _Table) -> str:
    return (
        f'op.execute("CREATE OR REPLACE VIEW {table.name}_names AS SELECT id, name AS title FROM {table.name}; '
        f"COMMENT ON VIEW {table.name}_names IS 'as of change {number}'\")"
    )


def _enum(product: _Product, number: int, table: _Table) -> str:
    if product.enums and number % 2:
        return f"op.execute(\"ALTER TYPE {product.enums[-1]} ADD VALUE IF NOT EXISTS 'v{number}'\")"
    product.enums.append(f"state_{number}")
    table.columns.append(f"state_{number}")
    return f"""state = sa.Enum('new', 'old', name='state_{number}')
state.create(op.get_bind())
op.add_column('{table.name}', sa.Column('state_{number}', state, server_default='new', nullable=False))"""


def _check(_: _Product, number: int, table: _Table) -> str:
    return f"op.create_check_constraint('ck_{number}', '{table.name}', 'total > -{number + 1} AND id % 1 = 0')"


def _reference(product: _Product, number: int, table: _Table) -> str:
    other = product.tables[number % len(product.tables)]
    return (
        f"op.create_foreign_key('fk_{number}', '{table.name}', '{other.name}', ['id'], ['id'], ondelete='CASCADE')\n"
        f"op.create_table_comment('{table.name}', 'see {other.name}: 100%')"
    )


def _rename(product: _Product, number: int, table: _Table) -> str:
    if not table.columns:
        return _add_column(product, number, table)
    old = table.columns.pop(0)
    table.columns.append(f"r{number}")
    return f"op.alter_column('{table.name}', '{old}', new_column_name='r{number}')"


def _drop(product: _Product, number: int, table: _Table) -> str:
    if len(table.columns) < 2:
        return _add_column(product, number, table)
    return f"op.drop_column('{table.name}', '{table.columns.pop(0)}')"


def _alter(_: _Product, number: int, table: _Table) -> str:
    if number % 2:
        return f"op.alter_column('{table.name}', 'total', existing_type=sa.Integer(), server_default='{number}')"
    return f"op.execute(\"DELETE FROM {table.name} WHERE id = {_ROWS + number}; ALTER TABLE {table.name} ALTER name SET DEFAULT 'a;b'\")"


_KINDS: tuple[Callable[[_Product, int, _Table], str], ...] = (
    _add_column,
    _index,
    _loop,
    _add_column,
    _function,
    _rename,
    _check,
    _core,
    _add_column,
    _view,
    _enum,
    _alter,
    _reference,
    _drop,
    _enum,
    _add_column,
    _loop,
)
