"""What a rehearsal asks PostgreSQL at the end of each revision, beside its footprint."""

from app.database.literals import literal
from app.database.simple_query import ResultSet
from app.report import RowsChanged


def written(version_table: str) -> str:
    """The statement that tells how many rows of which tables the transaction has written so far, but for the version's.

    Source: PostgreSQL manual, "The Cumulative Statistics System", pg_stat_xact_user_tables.
    """
    return (
        "SELECT relid, relid::regclass::text, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables "
        f"WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND relname <> {literal(version_table)} "
        "AND schemaname !~ '^pg_temp' ORDER BY 2"
    )


def count(table: str) -> str:
    """The statement that counts the rows of a table, whose name is quoted."""
    return f"SELECT count(*) FROM {table}"


def changed(before: ResultSet, after: ResultSet) -> list[RowsChanged]:
    """What was written between two answers to `written`."""
    counted = {oid: counts for oid, _, *counts in before.rows}
    found = []
    for oid, name, *counts in after.rows:
        # A TRUNCATE takes back what was counted before it.
        inserted, updated, deleted = (
            max(now - then, 0) for now, then in zip(counts, counted.get(oid, (0, 0, 0)), strict=True)
        )
        if inserted or updated or deleted:
            found.append(RowsChanged(relation=name, inserted=inserted, updated=updated, deleted=deleted))
    return found
