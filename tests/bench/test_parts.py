"""The parts of the benchmark measure what they say, with histories of three and the tools that are always there."""

from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import apply, cold, deployment, latency, nothing_pending, ours
from bench.history import tables
from bench.peers import FLOOR
from bench.peers.alembic_cli import AlembicCli
from bench.peers.peer import Peer
from bench.section import Section
from tests.servers import Database, Postgres

ALEMBIC = AlembicCli("psycopg")
PEERS: list[Peer] = [ALEMBIC, FLOOR]


def promised(section: Section) -> set[str]:
    """What of the section's goals promises anything."""
    return {goal.what for goal in section.goals if goal.at_most is not None}


def test_revisions_are_applied_to_an_empty_database_each_time(postgres: Postgres, tmp_path: Path) -> None:
    section = apply.measure(postgres, tmp_path, peers=PEERS, sizes=(3,), times=1)
    assert section.table.count("**Migration Endpoint**") == 1
    assert promised(section) == {f"3 revisions from empty, beside {ALEMBIC.name}"}
    (took,) = section.seconds.values()
    assert took.keys() == {ours.NAME, ALEMBIC.name} | ({FLOOR.name} - section.skipped.keys())


def test_nothing_is_pending_where_that_is_measured(postgres: Postgres, tmp_path: Path) -> None:
    section = nothing_pending.measure(postgres, tmp_path, peers=[ALEMBIC], sizes=(2, 3), compared=3, calls=2, times=1)
    assert section.seconds["nothing pending, warm"].keys() == {ours.NAME, ALEMBIC.name}
    assert promised(section) == {
        "nothing pending, warm, 3 revisions beside 2 revisions",
        f"nothing pending, warm, beside {ALEMBIC.name}",
    }
    assert FLOOR.name in section.skipped


def test_a_cold_function_is_measured_beside_cold_commands(postgres: Postgres, tmp_path: Path) -> None:
    section = cold.measure(postgres, tmp_path, peers=[ALEMBIC], revisions=2, times=1)
    current = f"{ALEMBIC.name}: `alembic current`"
    assert section.seconds["nothing pending, cold"].keys() == {ours.NAME, ALEMBIC.name, current}
    assert promised(section) == {f"nothing pending, cold, beside {name}" for name in (ALEMBIC.name, current)}


def test_who_is_far_away_waits_for_each_round_trip(postgres: Postgres, tmp_path: Path) -> None:
    section = latency.measure(postgres, tmp_path, peers=PEERS, pending=2, latency_s=0.02, times=1)
    applied, nothing = section.seconds
    assert promised(section) == {f"{what}, beside {ALEMBIC.name}" for what in (applied, nothing)}
    to_connect_and_for_each_revision = 3
    round_trip_s = 0.04
    assert all(
        min(took) > to_connect_and_for_each_revision * round_trip_s for took in section.seconds[applied].values()
    )


def test_a_service_that_applies_something_else_is_not_measured(
    postgres: Postgres, database: Database, tmp_path: Path
) -> None:
    history = deployment.write(tmp_path / "ours", tables(1))
    with ours.warm(database, tmp_path, history) as client:
        with pytest.raises(AssertionError, match='"applied":'):
            ours.migrate(client, applies=0)
        assert ours.migrate(client, applies=0) > 0


def test_a_part_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["apply", "nosuch"]) == 2
    assert "There is no nosuch; there are apply, " in capsys.readouterr().err
