"""A crowd is measured, and a wrong one is seen."""

from pathlib import Path

from bench import crowd
from bench.history import tables
from tests.servers import Database, Postgres


def test_a_crowd_and_one_caller_are_measured(postgres: Postgres, tmp_path: Path) -> None:
    found = crowd.measure(postgres, tmp_path, callers=6, processes=2, revisions=2, times=1)
    wrong, ratio, connections = found.goals
    assert wrong.value == 0
    assert ratio.value > 0.5, "the last of a crowd that contains one caller"
    assert 1 <= connections.value <= 4


def test_a_revision_that_ran_twice_or_not_at_all_and_a_refused_caller_are_wrong(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA migration_endpoint; CREATE TABLE migration_endpoint.step (id serial, revision text)"
    )
    database.execute("CREATE TABLE alembic_version AS SELECT 'r00002' AS version_num")
    right = crowd.Answered(1, ["up_to_date", "upgraded"])
    refused = crowd.Answered(1, ["upgraded", "about:blank#lock-held"])

    def wrong(*steps: str, answered: crowd.Answered = right) -> int:
        database.execute("TRUNCATE migration_endpoint.step")
        for step in steps:
            database.execute(f"INSERT INTO migration_endpoint.step (revision) VALUES ('{step}')")
        return crowd._wrong(database, tables(2), answered)

    assert wrong("r00001", "r00002") == 0
    assert wrong("r00001", "r00002", "r00002") == 1
    assert wrong("r00002") == 1
    assert wrong("r00001", "r00002", answered=refused) == 1
    database.execute("UPDATE alembic_version SET version_num = 'r00001'")
    assert wrong("r00001", "r00002") == 1
