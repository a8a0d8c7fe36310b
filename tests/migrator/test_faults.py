"""What is wrong with a history is told at once, in words, and before the database is asked."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from app.errors import BrokenHistory
from app.migrator.revisions import History, scripts
from tests import servers
from tests.conftest import MakeSettings, WriteHistory, client_of, write_revision
from tests.migrator.test_glance import COLD
from tests.servers import APPLY, READ, Database
from tests.terminal import terminal
from tests.web.answers import DEAD, problem, without_database


def faults(folder: Path) -> list[dict[str, Any]]:
    """What is wrong with the history of a folder; it must be something."""
    with pytest.raises(BrokenHistory) as refused:
        History(str(folder))
    assert refused.value.hint
    found: list[dict[str, Any]] = refused.value.members["faults"]
    for fault in found:
        assert fault.keys() == {"file", "line", "message", "hint"}
        assert fault["message"].endswith(".")
        assert fault["hint"].endswith(".")
    return found


HEAD = "revision = 'b2'\ndown_revision = 'a1'\n"

ALONE = {
    "a module that is nowhere": (
        f"{HEAD}import no_such_module.part",
        (
            3,
            "It imports `no_such_module`, which is not installed here.",
            "`no_such_module` must be among the deployment",
        ),
    ),
    "a part of a package that is here": (
        f"{HEAD}from alembic.no_such_part import x",
        (3, "It imports `alembic.no_such_part`, and `alembic` has no such module here.", "correct the import"),
    ),
    "a name that a module lacks": (
        "from alembic import nothing_of_this_name",
        (1, "cannot import name 'nothing_of_this_name' from 'alembic'.", "upgrade() and downgrade()"),
    ),
    "Python that is none": (f"{HEAD}\ndef upgrade(:", (4, "It is not valid Python: SyntaxError: ", "Correct it.")),
    "bytes that are no text": (f"{HEAD}\0", (None, "It is not valid Python: SyntaxError: ", "Correct it.")),
    "an error": (
        f"{HEAD}def need(name):\n    raise KeyError(name)\nneed('SECRET_KEY')",
        (4, "It cannot be imported: KeyError: 'SECRET_KEY'.", "without a database"),
    ),
    "an end of the program": (f"{HEAD}raise SystemExit(3)", (3, "ends the program when imported (SystemExit: 3)", "")),
    "no revision": ("down_revision = 'a1'", (None, "It has no variable `revision`.", "move it elsewhere")),
    "no predecessor": ("revision = 'b2'", (None, "It has no variable `down_revision`.", "to None if it is the first")),
    "a revision that is no text": ("revision = 7\ndown_revision = 'a1'", (None, "TypeError: ", "`revision` is text")),
    "a sign in the revision": ("revision = 'b-2'\ndown_revision = 'a1'", (None, "Character(s) '-' not allowed", "")),
    "itself before it": ("revision = 'b2'\ndown_revision = 'b2'", (None, "It comes after itself.", "`down_revision`")),
    "itself needed": (f"{HEAD}depends_on = 'b2'", (None, "It comes after itself.", "`depends_on`")),
    "a gap": (
        "revision = 'b2'\ndown_revision = 'gone'",
        (None, "It comes after `gone` (down_revision), and no file has that revision.", "the file of `gone`"),
    ),
    "a label where a revision belongs": (
        "revision = 'b2'\ndown_revision = 'shop'\nbranch_labels = 'shop'",
        (None, "It comes after `shop` (down_revision), and no file has that revision.", ""),
    ),
    "an unknown need": (
        f"{HEAD}depends_on = ('a1', 'billing')",
        (None, "It depends on `billing` (depends_on), and there is no such revision or branch label.", ""),
    ),
    "a twin": ("revision = 'a1'\ndown_revision = None", (None, "revision `a1` is also that of ", "an id of its own")),
    "a label that is a revision": (f"{HEAD}branch_labels = 'a1'", (None, "`a1` is the id of a revision.", "rename")),
}


@pytest.mark.parametrize("kind", ALONE)
def test_each_kind_of_fault_says_where_it_is_what_it_is_and_what_to_do(write_history: WriteHistory, kind: str) -> None:
    body, (line, message, hint) = ALONE[kind]
    folder = write_history(a1="pass")
    (folder / "versions" / "last.py").write_text(body)
    (fault,) = faults(folder)
    assert (fault["file"], fault["line"]) == (f"{folder.name}/versions/last.py", line)
    assert message in fault["message"]
    assert hint in fault["hint"]


def test_a_driver_that_is_not_installed_is_an_extra(
    write_history: WriteHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_history(a1="pass")
    (folder / "versions" / "b2.py").write_text(f"{HEAD}from psycopg2.extras import Json")
    for name in ("psycopg2", "psycopg2.extras"):
        monkeypatch.setitem(sys.modules, name, None)  # Python's own way to say that there is none
    (fault,) = faults(folder)
    assert fault["message"].startswith("It imports `psycopg2")
    assert "the extra `psycopg2`" in fault["hint"]
    assert "MIGRATION_DRIVER=psycopg2" in fault["hint"]


def test_the_file_is_named_through_which_an_import_failed(write_history: WriteHistory, tmp_path: Path) -> None:
    folder = write_history(a1="pass")
    (tmp_path / "models_of_a_shop.py").write_text("import no_such_module\n")
    path = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
    (folder / "versions" / "b2.py").write_text(f"{path}{HEAD}import models_of_a_shop")
    (fault,) = faults(folder)
    assert fault["line"] == 5
    assert f"`no_such_module` (through {tmp_path.parent.name}/{tmp_path.name}/models_of_a_shop.py)" in fault["message"]


def test_a_label_that_two_branches_claim_is_named_with_both_files(tmp_path: Path) -> None:
    for revision in ("a1", "x1"):
        write_revision(tmp_path / "h", revision, None, "pass")
        with (tmp_path / "h" / "versions" / f"{revision}.py").open("a") as file:
            file.write("branch_labels = ('shop',)\n")
    (fault,) = faults(tmp_path / "h")
    assert fault["file"] == "h/versions/x1.py"
    assert fault["message"] == "Its branch label `shop` is also that of h/versions/a1.py."


def test_circles_are_told_one_by_one_and_not_what_comes_after_them(tmp_path: Path) -> None:
    before = {"a1": None, "b1": "d1", "c1": "b1", "d1": "c1", "e1": "d1", "x1": "y1", "y1": "a1"}
    for revision, down in before.items():
        write_revision(tmp_path / "h", revision, down, "pass")
    with (tmp_path / "h" / "versions" / "y1.py").open("a") as file:
        file.write("depends_on = 'shop'\n")
    with (tmp_path / "h" / "versions" / "x1.py").open("a") as file:
        file.write("branch_labels = 'shop'\n")
    told = [fault["message"] for fault in faults(tmp_path / "h")]
    assert told == [
        "It comes after itself: b1 → d1 → c1 → b1, each after the next.",
        "It comes after itself: x1 → y1 → x1, each after the next.",
    ]


def test_what_a_broken_file_would_bring_is_not_missing_too(write_history: WriteHistory) -> None:
    folder = write_history(a1="pass", b2="pass", c3="pass")
    (folder / "versions" / "b2.py").write_text(f"{HEAD}branch_labels = ('shop', 'till')\nimport no_such_module")
    with (folder / "versions" / "c3.py").open("a") as file:
        file.write("depends_on = 'till'\n")
    assert [fault["file"] for fault in faults(folder)] == [f"{folder.name}/versions/b2.py"]


@pytest.mark.parametrize(("broken", "shown"), [(40, 40), (130, 100)])
def test_all_of_many_faults_are_told_at_once(write_history: WriteHistory, broken: int, shown: int) -> None:
    folder = write_history(**{f"r{number:03}": "pass" for number in range(600)})
    for number in range(broken):
        with (folder / "versions" / f"r{number:03}.py").open("a") as file:
            file.write(f"import no_such_module_{number}\n")
    (folder / "versions" / "r599.py").rename(folder / "versions" / "0_twin_of_r500.py")
    with (folder / "versions" / "0_twin_of_r500.py").open("a") as file:
        file.write("revision = 'r500'\n")
    with pytest.raises(BrokenHistory) as refused:
        History(str(folder))
    told, more = refused.value.members["faults"], refused.value.members["not_shown"]
    assert (len(told), more) == (min(broken + 1, 100), max(broken + 1 - 100, 0))
    assert len({fault["file"] for fault in told if "no_such_module" in fault["message"]}) == shown
    assert f"There are {broken} more, which `faults` lists." in refused.value.detail


def test_each_file_is_imported_once_however_many_are_broken(write_history: WriteHistory, tmp_path: Path) -> None:
    folder, diary = write_history(a1="pass", b2="pass", c3="pass"), tmp_path / "diary"
    for revision in ("a1", "b2", "c3"):
        with (folder / "versions" / f"{revision}.py").open("a") as file:
            file.write(f"with open({str(diary)!r}, 'a') as diary:\n    diary.write('{revision} ')\n")
            file.write("raise OSError('no disk')\n" if revision != "c3" else "")
    assert len(faults(folder)) == 2
    assert diary.read_text() == "a1 b2 c3 "


def test_a_fault_tells_no_password(write_history: WriteHistory) -> None:
    folder = write_history(a1="pass")
    (folder / "versions" / "b2.py").write_text("raise OSError('postgresql://me:hunter2@host/shop')")
    (folder / "versions" / "c3.py").write_text("revision = 'c3'\ndown_revision = 'postgresql://me:hunter2@host/shop'")
    with pytest.raises(BrokenHistory) as refused:
        History(str(folder))
    assert "hunter2" not in str(refused.value.document())
    assert "postgresql://***@host/shop" in str(refused.value.document())


def located(tmp_path: Path, **options: Any) -> ScriptDirectory:
    """Two folders of revisions, one of them with a folder in it."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two" / "more").mkdir(parents=True)
    (tmp_path / "one" / "a1.py").write_text("revision = 'a1'\ndown_revision = None\n")
    (tmp_path / "two" / "b2.py").write_text("revision = 'b2'\ndown_revision = 'a1'\n")
    (tmp_path / "two" / "more" / "c3.py").write_text("revision = 'c3'\ndown_revision = 'b2'\n")
    return ScriptDirectory(tmp_path, **options)


def test_several_folders_are_looked_through_as_alembic_does(tmp_path: Path) -> None:
    every = [tmp_path / "one", tmp_path / "two"]
    directory = located(tmp_path, version_locations=every, recursive_version_locations=True)
    scripts.load(directory)
    assert directory.get_heads() == ["c3"]
    (tmp_path / "two" / "more" / "c3.py").write_text("import no_such_module")
    (tmp_path / "one" / "a1.py").write_text("import no_such_module")
    with pytest.raises(BrokenHistory) as refused:
        scripts.load(directory)
    files = [Path(fault["file"]).parts[-3:] for fault in refused.value.members["faults"]]
    assert [parts[-2:] for parts in files] == [("one", "a1.py"), ("more", "c3.py"), ("two", "b2.py")]


def test_a_file_that_two_folders_lead_to_is_one_file(tmp_path: Path) -> None:
    every = [tmp_path / "one", tmp_path / "two", tmp_path / "again"]
    directory = located(tmp_path, version_locations=every, recursive_version_locations=True)
    (tmp_path / "again").symlink_to(tmp_path / "two")
    scripts.load(directory)
    assert directory.get_heads() == ["c3"]


async def test_every_door_answers_with_it_and_asks_no_database(write_history: WriteHistory) -> None:
    folder = write_history(a1="pass", b2="pass")
    for revision in ("a1", "b2"):
        with (folder / "versions" / f"{revision}.py").open("a") as file:
            file.write("import no_such_module\n")
    async with client_of(without_database(script_location=str(folder), allow_downgrade=True)) as client:
        answers = [
            await client.get("/status", headers=READ),
            await client.get("/plan", headers=READ),
            await client.post("/migrate", headers=APPLY),
            await client.post("/migrate", headers=APPLY, json={"target": "+1"}),
            await client.post("/rehearse", headers=APPLY),
            await client.post("/downgrade", headers=APPLY, json={"target": "a1", "plan_digest": "0" * 64}),
        ]
        for answer in answers:
            document = problem(answer, "broken-history", 503)
            assert document["retryable"] is False
            assert [fault["file"].rpartition("/")[2] for fault in document["faults"]] == ["a1.py", "b2.py"]
        health = await client.get("/health", headers=READ)
        assert (health.status_code, health.json()["status"]) == (503, "fail")
        assert health.json()["problem"]["type"].endswith("#broken-history")
        assert (await client.get("/health")).json() == {"status": "fail"}


async def test_a_fault_in_a_revision_that_was_applied_long_ago_counts_too(
    settings: MakeSettings, write_history: WriteHistory
) -> None:
    sound, broken = write_history(a1="pass", b2="pass"), write_history(a1="import no_such_module", b2="pass")
    (broken / "versions" / "a1.py").write_text("import no_such_module\nrevision = 'a1'\ndown_revision = None\n")
    async with client_of(settings(sound)) as client:
        assert (await client.post("/migrate", headers=APPLY)).status_code == 200
    async with client_of(settings(broken)) as client:
        problem(await client.get("/status", headers=READ), "broken-history", 503)
        problem(await client.post("/migrate", headers=APPLY), "broken-history", 503)


@pytest.mark.parametrize(("state", "expected"), [("at the head", "200 up_to_date"), ("behind", "503 None")])
async def test_a_cold_function_says_that_nothing_is_to_be_done_whatever_a_file_imports(
    state: str, expected: str, settings: MakeSettings, write_history: WriteHistory, database: Database
) -> None:
    """It does not load the revisions to say so, and what it says is true; a call that would run one does load them."""
    history = write_history(a1="pass", b2="pass")
    async with client_of(settings(history)) as client:
        target = "b2" if state == "at the head" else "a1"
        assert (await client.post("/migrate", headers=APPLY, json={"target": target})).status_code == 200
    with (history / "versions" / "a1.py").open("a") as file:
        file.write("import no_such_module\n")
    said = await asyncio.to_thread(servers.said_by, COLD, database, history, APPLY["Authorization"], "heads")
    assert said.startswith(expected)


def test_the_terminal_lists_them_and_asks_no_database(write_history: WriteHistory) -> None:
    folder = write_history(a1="pass", b2="pass")
    for revision in ("a1", "b2"):
        (folder / "versions" / f"{revision}.py").write_text(f"import no_such_module_for_{revision}")
    for command in (("status",), ("migrate",), ("plan",), ("rehearse",), ("stamp", "--yes")):
        ended = terminal(None, *command, script_location=folder, database_url=DEAD)
        assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
        assert ended.stderr.startswith("The revisions cannot be loaded: ")
        for revision in ("a1", "b2"):
            assert f"/versions/{revision}.py: It imports `no_such_module_for_{revision}`" in ended.stderr
        assert "UserWarning" not in ended.stderr
    told = terminal(None, "status", "--json", script_location=folder, database_url=DEAD)
    assert '"faults": [{' in told.stdout


def test_alembics_warnings_do_not_turn_up_beside_them(write_history: WriteHistory) -> None:
    folder = write_history(a1="pass", b2="pass")
    (folder / "versions" / "b2.py").write_text("revision = 'b2'\ndown_revision = 'gone'\n")
    (folder / "versions" / "c3.py").write_text("revision = 'a1'\ndown_revision = None\n")
    ended = terminal(None, "status", script_location=folder, database_url=DEAD)
    assert "Warning" not in ended.stderr
    assert ended.stderr.count("no file has that revision") == 1
    assert ended.stderr.count("is also that of") == 2  # the first of the faults is the problem's detail too
