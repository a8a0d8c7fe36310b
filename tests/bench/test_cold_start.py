"""The cold start's parts do what they are measured for. How fast anything is, `make bench` tells."""

from pathlib import Path

import pytest

from bench import cold_start
from tests import servers
from tests.servers import PROJECT, Database


def test_every_side_does_what_it_is_measured_for(database: Database, tmp_path: Path) -> None:
    history, plain, bare = cold_start.write_histories(tmp_path, database, 2)
    environment = servers.environment(database, script_location=history)
    with pytest.raises(AssertionError, match="stdout=''"):  # it would be faster with nothing applied
        cold_start.current(environment, plain)()
    assert cold_start.first_answer(environment, PROJECT, "api/index.py", "POST", "/migrate")() > 0
    assert database.value("SELECT version_num FROM alembic_version") == "r0001"
    assert cold_start.current(environment, plain)() > 0
    assert cold_start.first_answer(environment, bare, "index.py", "GET", "/livez")() > 0
