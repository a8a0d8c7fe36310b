"""The deployment's revisions: the only room that knows Alembic.

`rendering` stays by itself: it brings the lint, of which a run has no need.
"""

from app.migrator.revisions import options
from app.migrator.revisions.env_py import (
    AlembicIsBusy,
    Applying,
    Observer,
    Onlooker,
    command_under_way,
    honour,
    is_run_here,
    run_options,
    version_options,
)
from app.migrator.revisions.history import History, Rendered, loaded
from app.migrator.revisions.running import Rehearser, rehearse, run, stamp

__all__ = [
    "AlembicIsBusy",
    "Applying",
    "History",
    "Observer",
    "Onlooker",
    "Rehearser",
    "Rendered",
    "command_under_way",
    "honour",
    "is_run_here",
    "loaded",
    "options",
    "rehearse",
    "run",
    "run_options",
    "stamp",
    "version_options",
]
