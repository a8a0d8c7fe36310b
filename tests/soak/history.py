"""The history of a soak: what revisions do in the world, with pauses in which something may happen to them."""

REVISIONS = [f"r{number:02}" for number in range(1, 51)]


def fifty_revisions() -> dict[str, str]:
    """A table after the other, each with rows, columns, constraints, a trigger, and an index built concurrently."""
    bodies = {revision: _BODIES[at % 6](f"t{at // 6}", at // 6) for at, revision in enumerate(REVISIONS)}
    bodies[REVISIONS[0]] = "op.execute('CREATE TABLE journal (revision text)')\n" + bodies[REVISIONS[0]]
    # What is applied twice, or half, shows in the journal: nothing keeps a revision from writing there again.
    return {
        revision: f"{body}\nop.execute(\"INSERT INTO journal VALUES ('{revision}')\")"
        for revision, body in bodies.items()
    }


def _table(name: str, _: int) -> str:
    return f"""
op.create_table(
    '{name}',
    sa.Column('id', sa.BigInteger, primary_key=True),
    sa.Column('kind', sa.Integer),
    sa.Column('note', sa.Text),
)
op.execute("INSERT INTO {name} SELECT n, n % 7, 'note ' || n FROM generate_series(1, 2000) AS n")
"""


def _column(name: str, _: int) -> str:
    return f"""
op.add_column('{name}', sa.Column('state', sa.Text, server_default='new', nullable=False))
op.execute('SELECT pg_sleep(0.15)')
"""


def _backfill(name: str, _: int) -> str:
    return f"""
op.execute("UPDATE {name} SET state = 'seen' WHERE kind = 3")
time.sleep(0.05)
op.bulk_insert(
    sa.table('{name}', sa.column('id', sa.BigInteger), sa.column('note', sa.Text)),
    [{{'id': 10_000 + number, 'note': None}} for number in range(50)],
)
"""


def _index(name: str, number: int) -> str:
    columns, unique = (["note", "id"], True) if number % 2 else (["kind", "state"], False)
    return f"""
op.execute('ALTER TABLE {name} ADD COLUMN IF NOT EXISTS extra integer DEFAULT {number}')  # commits with the block
with op.get_context().autocommit_block():
    op.create_index(
        '{name}_index', '{name}', {columns}, unique={unique}, postgresql_concurrently=True, if_not_exists=True
    )
op.execute('SELECT pg_sleep(0.1)')
"""


def _constraint(name: str, number: int) -> str:
    return f"""
op.execute('ALTER TABLE {name} ADD CONSTRAINT {name}_kind CHECK (kind < 10) NOT VALID')
op.execute('SELECT pg_sleep(0.05); ALTER TABLE {name} VALIDATE CONSTRAINT {name}_kind')
op.add_column('{name}', sa.Column('first', sa.BigInteger))
op.create_foreign_key('{name}_first', '{name}', 't0', ['first'], ['id'])
time.sleep({0.02 * number})
"""


def _trigger(name: str, _: int) -> str:
    return f"""
op.execute('''
    CREATE FUNCTION {name}_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER {name}_changes BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION {name}_changes();
''')
op.alter_column('{name}', 'note', new_column_name='remark')  # whatever rewrites the table would mend a broken index
op.execute('SELECT pg_sleep(0.3)')
"""


_BODIES = [_table, _column, _backfill, _index, _constraint, _trigger]
