"""The files of a history, all of them imported, whatever is wrong with one, and put together by Alembic."""

from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionMap

from app.migrator.revisions import faults


def load(directory: ScriptDirectory) -> None:
    """Import each revision, once, and have Alembic make its graph of them.

    Alembic itself stops at the first file that it cannot import, and of some faults it only warns.

    Raises:
        BrokenHistory: Files cannot be imported, or do not make a graph; all faults at once.
    """
    scripts: list[Script] = []
    failed: dict[Path, BaseException] = {}
    for file in _files(directory):
        try:
            script = Script._from_path(directory, file)  # noqa: SLF001 – by which Alembic loads each
        except (Exception, SystemExit) as error:  # noqa: BLE001 – a revision's file is somebody's code
            failed[file] = error
        else:
            scripts += [script] if script else []
    if found := faults.found(scripts, failed):
        raise faults.broken([*found, *faults.circles(scripts)])
    directory.revision_map = RevisionMap(lambda: scripts)
    try:
        directory.get_heads()
    except Exception as error:
        raise faults.broken(list(faults.circles(scripts)) or [faults.unforeseen(error)]) from error
    for script in scripts:
        _settle(script)


def _files(directory: ScriptDirectory) -> list[Path]:
    """The files, as Alembic's `ScriptDirectory._load_revisions` goes through them; each once."""
    folders = [folder for folder in directory._version_locations if folder.exists()]  # noqa: SLF001 – as above
    every = [file for folder in folders for file in Script._list_py_dir(directory, folder)]  # noqa: SLF001 – as above
    return list(dict.fromkeys(file.resolve() for file in every))


def _settle(script: Script) -> None:
    """Put what a revision depends on into the order in which it says so.

    Alembic has it in that of a set of texts, which is another one in each process; so revisions that have nothing to do
    with each other would come in one order in the plan that was reviewed, and in another where it is run.
    """
    kept = script._normalized_resolved_dependencies  # noqa: SLF001 – by which Alembic sorts
    if len(kept) > 1:
        said = dict.fromkeys(script._resolved_dependencies)  # noqa: SLF001 – as above
        script._normalized_resolved_dependencies = tuple(each for each in said if each in kept)  # noqa: SLF001
