"""`python -m app runs`: what it shows, as real processes; and how a run is put into words."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.cli import runs
from app.report import AcceptedFinding, Deployment, RecordedRun, RecordedStep, RunInDetail, Runs, TableLock
from tests.conftest import WriteHistory
from tests.servers import Database, service
from tests.terminal import terminal
from tests.test_cli import TWO, on_a_terminal

RUN_ID = "01a20503-6ea5-7904-9c95-c712386e14bb"


def a_run(**changes: Any) -> dict[str, Any]:
    at = datetime(2026, 11, 22, 20, 47, 20, 741262, UTC)
    return {
        "run_id": UUID(RUN_ID),
        "outcome": "upgraded",
        "target": "heads",
        "from_": ["0005"],
        "to": ["0007"],
        "started_at": at,
        "finished_at": at,
        "duration_ms": 34,
        "waited_ms": 0,
        "pending": 2,
        "retries": 0,
        "key_label": "5f3a9c01",
        "reason": "deploy 4f1c9a2",
        "deployment": Deployment(id="dpl_7Gk2", git_sha="4f1c9a2b" * 5, environment="production"),
        "request_id": "r1",
        "error": None,
        "revisions": ["0006", "0007"],
        "accepted": [],
    } | changes


def line(**changes: Any) -> str:
    return runs._table(Runs(runs=[RecordedRun(**a_run(**changes))]))


def test_a_run_is_one_line() -> None:
    assert line() == (
        f"{RUN_ID}  2026-11-22 20:47:20Z  upgraded  34 ms  0005 → 0007  2 revisions  4f1c9a2 production  "
        "5f3a9c01, deploy 4f1c9a2"
    )
    accepted = [AcceptedFinding(revision="0007", rule="ban-drop-column", level="danger")]
    assert line(accepted=accepted).endswith("5f3a9c01, deploy 4f1c9a2, accepted ban-drop-column (danger)")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"from_": [], "to": ["b2", "c3"]}, "  base → b2, c3  "),
        ({"to": None, "outcome": "refused"}, "  refused  34 ms  0005  2 revisions  "),
        ({"outcome": "failed", "error": {"type": "https://docs.example#lock-timeout"}}, "  failed: lock-timeout  "),
        ({"duration_ms": None, "outcome": "running"}, "  running  –  "),
        ({"duration_ms": 61_900}, "  1 min 1 s  "),
        ({"duration_ms": 1500}, "  1.5 s  "),
        ({"revisions": ["0006"]}, "  1 revision  "),
        ({"deployment": Deployment(id="dpl_7Gk2")}, "  dpl_7Gk2  "),
        ({"deployment": Deployment(), "key_label": None, "reason": None}, "0005 → 0007  2 revisions  "),
    ],
)
def test_what_is_not_there_is_left_out(changes: dict[str, Any], shown: str) -> None:
    assert shown in f"{line(**changes)}  "


def test_the_lines_of_several_runs_are_columns_and_the_next_page_is_told() -> None:
    several = [RecordedRun(**a_run()), RecordedRun(**a_run(outcome="failed", duration_ms=61_900, to=["0006"]))]
    first, second, more = runs._table(Runs(runs=several, next="AACURSOR")).splitlines()
    assert first.index("0005 →") == second.index("0005 →")
    assert first.index("production") == second.index("production")
    assert more == "The next page: --cursor AACURSOR"


def test_nothing_that_a_caller_wrote_commands_the_terminal() -> None:
    hostile = "a\nb\x1b[2J\x07\u202e" + "x" * 500
    shown = line(reason=hostile, key_label="\x1b]0;t\x07", deployment=Deployment(environment="\r\n"), from_=["\x9b1m"])
    assert shown.count("\n") == 0
    assert shown.isprintable()
    assert len(shown) < 250
    detail = runs._detail(RunInDetail(**a_run(reason=hostile, error={"detail": hostile, "hint": "\x1b[1m"}), **live()))
    assert all(each.isprintable() for each in detail.splitlines())
    assert "x" * 500 in detail


def live(**changes: Any) -> dict[str, Any]:
    return {"steps": [], "state": "ended", "revision": None, "progress": None, "index_build": None} | changes


def test_one_run_is_told_with_its_steps_their_locks_and_its_problem() -> None:
    at = datetime(2026, 11, 22, 20, 47, 20, tzinfo=UTC)
    steps = [
        RecordedStep(revision="0006", direction="upgrade", sha256="x", started_at=at, duration_ms=4),
        RecordedStep(
            revision="0007",
            direction="upgrade",
            sha256="x",
            started_at=at,
            duration_ms=3,
            locks=[TableLock(relation="product", mode="AccessExclusiveLock", held_ms=3)],
            rewrote=["product"],
        ),
    ]
    error = {"type": "https://docs.example#lock-timeout", "detail": "A table stayed locked.", "hint": "Call again."}
    accepted = [AcceptedFinding(revision="0007", rule="ban-drop-column", level="danger")]
    told = RunInDetail(**a_run(accepted=accepted, outcome="failed", error=error), **live(steps=steps))
    assert runs._detail(told) == "\n".join(
        (
            f"run         {RUN_ID}",
            "outcome     failed",
            "started     2026-11-22 20:47:20Z",
            "took        34 ms",
            "waited      0 ms",
            "retries     0",
            "target      heads",
            "from, to    0005 → 0007",
            f"deployment  dpl_7Gk2 {'4f1c9a2b' * 5} production",
            "key         5f3a9c01",
            "reason      deploy 4f1c9a2",
            "request     r1",
            "accepted    ban-drop-column (danger) of 0007",
            "step        0006  upgrade  4 ms",
            "step        0007  upgrade  3 ms",
            "              locked product in AccessExclusiveLock for 3 ms",
            "              rewrote product",
            "problem     lock-timeout: A table stayed locked.",
            "            Call again.",
        )
    )


# --- the command


def test_the_runs_are_listed_filtered_paged_and_shown_one_by_one(
    database: Database, write_history: WriteHistory
) -> None:
    history = write_history(**TWO)
    assert terminal(database, "runs").stdout == "No such run is on record.\n"
    for target in ("a1", "b2"):
        done = terminal(database, "migrate", "--target", target, "--reason", f"to {target}", script_location=history)
        assert done.returncode == 0, done.stderr
    newest, oldest = terminal(database, "runs").stdout.splitlines()
    assert ("a1 → b2" in newest, "base → a1" in oldest) == (True, True)
    assert oldest.endswith("1 revision  to a1"), "there is no deployment and no key"

    (first, more) = terminal(database, "runs", "--limit", "1").stdout.splitlines()
    assert first.startswith(newest.partition("  ")[0])
    assert terminal(database, "runs", "--limit", "1", *more.split()[-2:]).stdout.split()[0] == oldest.split()[0]
    assert (
        terminal(database, "runs", "--revision", "a1", "--outcome", "upgraded", "--outcome", "failed").stdout.split()[0]
        == (oldest.split()[0])
    )
    assert terminal(database, "runs", "--until", "2020-01-01T00:00:00Z").stdout == "No such run is on record.\n"

    one = terminal(database, "runs", oldest.split()[0]).stdout
    assert "\nreason      to a1\n" in one
    assert "\nstep        a1  upgrade  " in one
    assert newest.split()[0] in on_a_terminal(database, "runs")


def test_json_is_what_http_answers(
    database: Database, write_history: WriteHistory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    history = write_history(**TWO)
    terminal(database, "migrate", script_location=history)
    listed = json.loads(terminal(database, "runs", "--json", "--limit", "5").stdout)
    run_id = listed["runs"][0]["run_id"]
    one = json.loads(terminal(database, "runs", run_id, "--json").stdout)
    with service(database, tmp_path_factory.mktemp("service")) as served:
        assert served.get("/runs?limit=5").json() == listed
        assert served.get(f"/runs/{run_id}").json() == one


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--outcome", "exploded"], "--outcome: Input should be 'running', 'upgraded'"),
        (["--since", "yesterday"], "--since: should be a time of RFC 3339"),
        (["--git-sha", "4f1"], "--git-sha: should be a commit's hash"),
        (["--limit", "0", "--cursor", "x"], "--limit: Input should be greater than or equal to 1; --cursor: should be"),
        (["not-an-id"], "invalid UUID value"),
        ([RUN_ID, "--limit", "1"], "not both"),
    ],
)
def test_what_cannot_be_understood_ends_with_2(arguments: list[str], says: str) -> None:
    refused = terminal(None, "runs", *arguments)
    assert refused.returncode == 2
    assert says in refused.stderr


def test_a_run_that_is_not_on_record_ends_with_2(database: Database) -> None:
    refused = terminal(database, "runs", RUN_ID)
    assert refused.returncode == 2
    assert "GET /runs" in refused.stderr
