"""`python -m app dev`: the first thing that a newcomer runs, as a real process."""

import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests import servers
from tests.servers import Database

type Process = "subprocess.Popen[bytes]"


@contextmanager
def dev(data: Path, database: Database | None = None) -> Iterator[tuple[Process, int, Path]]:
    """Run `dev` until it serves; the process, its port, and the file with what it printed."""
    port = servers.free_port()
    printed = data.parent / f"dev-{port}.log"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "dev", "--port", str(port), "--data", str(data)],
            cwd=servers.PROJECT,
            env=servers.environment(database) | {"MIGRATION_API_KEY": "", "MIGRATION_READ_KEY": ""},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        servers.until(
            lambda: _answers(port) or process.poll() is not None, seconds=60, what="the development server to answer"
        )
        assert process.poll() is None, printed.read_text()
        yield process, port, printed
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # SIGKILL would leave the embedded server behind
            process.wait(timeout=30)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def key_in(data: Path) -> str:
    return str(json.loads((data / "keys.json").read_text())["MIGRATION_API_KEY"])


def processes_of(process: Process, data: Path) -> list[psutil.Process]:
    """The processes that `dev` started: its own children, and the database's."""
    found = psutil.Process(process.pid).children(recursive=True)
    pid_file = data / "postgres" / "postmaster.pid"
    if pid_file.exists():
        found.append(psutil.Process(int(pid_file.read_text().splitlines()[0])))
    return found


def test_the_printed_lines_migrate_a_real_database_and_everything_survives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "dev"
    with dev(data) as (process, port, printed):
        lines = [line.strip() for line in printed.read_text().splitlines() if line.startswith("  curl ")]
        assert [line.split("127.0.0.1")[1].split()[0] for line in lines] == [
            f":{port}/migrate",
            f":{port}/status",
            f":{port}/health",
        ]
        migrated, status, health = (
            json.loads(subprocess.run(["bash", "-c", line], check=True, capture_output=True, timeout=60).stdout)
            for line in lines
        )
        assert (migrated["outcome"], migrated["to"]) == ("upgraded", ["0007"])
        assert status["state"] == "up_to_date"
        assert health == {"status": "pass"}
        assert httpx.get(f"http://127.0.0.1:{port}/openapi.json").status_code == 200

        assert stat.S_IMODE((data / "keys.json").stat().st_mode) == 0o600
        key = key_in(data)
        running = processes_of(process, data)
        assert len(running) >= 2
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert not psutil.wait_procs(running, timeout=10)[1]
    assert "Traceback" not in printed.read_text()

    # As if that process had been killed: the embedded server still counts it among its users.
    (data / "postgres" / ".handle_pids.json").write_text(f"[{process.pid}]")
    with dev(data) as (process, port, printed):
        assert key_in(data) == key
        answer = httpx.post(f"http://127.0.0.1:{port}/migrate", headers={"Authorization": f"Bearer {key}"}, timeout=30)
        assert answer.json()["outcome"] == "up_to_date"
        running = processes_of(process, data)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert not psutil.wait_procs(running, timeout=10)[1]


def test_a_database_of_the_environment_is_used_instead_of_the_embedded_one(tmp_path: Path, database: Database) -> None:
    data = tmp_path / "dev"
    with dev(data, database) as (_, port, printed):
        headers = {"Authorization": f"Bearer {key_in(data)}"}
        assert httpx.post(f"http://127.0.0.1:{port}/migrate", headers=headers, timeout=30).status_code == 200
        assert "the database of your environment" in printed.read_text()
    assert not (data / "postgres").exists()
    assert database.value("SELECT version_num FROM alembic_version") == "0007"


def test_a_port_in_use_is_said_clearly_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = _refused("--port", str(port), "--data", str(tmp_path / "dev"))
    assert f"Port {port} on 127.0.0.1 cannot be used: Address already in use." in ended
    assert "make dev PORT=" in ended
    assert not (tmp_path / "dev").exists()


def test_a_port_that_does_not_exist_is_said_clearly(tmp_path: Path) -> None:
    assert "There is no port 70000" in _refused("--port", "70000", "--data", str(tmp_path / "dev"))


def test_a_folder_that_cannot_be_used_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = _refused("--port", str(servers.free_port()), "--data", str(tmp_path / "file" / "dev"))
    assert "cannot be used: Not a directory. Choose another with --data." in ended


def _refused(*arguments: str) -> str:
    """Run `dev` with arguments that it refuses; what it says."""
    ended = subprocess.run(
        [sys.executable, "-m", "app", "dev", *arguments],
        check=False,
        cwd=servers.PROJECT,
        env=servers.environment(None),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr
