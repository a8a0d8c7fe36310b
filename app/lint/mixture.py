"""mixed-transaction: a revision is committed in parts, and one of them will not pass a second time.

A revision is on record only once its last part is committed. If it ends between two parts, the next run starts it
again from its beginning, on top of what the first parts have left.
"""

from collections.abc import Sequence
from itertools import pairwise

from app.lint import code
from app.lint.script import Script
from app.lint.statements import Statement, controls
from app.report import Finding

RULE = "mixed-transaction"

_CHANGE_NOTHING = {
    *("SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN", "SET", "RESET", "DISCARD", "LOCK", "ANALYZE", "VACUUM"),
    *("SAVEPOINT", "RELEASE", "ROLLBACK", "DECLARE", "FETCH", "CLOSE", "LISTEN", "NOTIFY", "UNLISTEN"),
}
"""The first words of statements that leave nothing behind which a second run would stumble over."""
_PASS_AGAIN = {("IF", "EXISTS"), ("IF", "NOT"), ("OR", "REPLACE"), ("ON", "CONFLICT")}
_SHOWN = 60
"""How many characters of a statement are shown."""


def finding(script: Script, statements: Sequence[Statement]) -> Finding | None:
    """What is to be said against the way in which a script is committed."""
    parts, transactional = _parts(statements)
    if script.transactional is None and any(controls(each) for each in statements):
        parts.append([])  # what could not be rendered comes after
    before_the_last = [statement for part in parts[:-1] for statement in part]
    stumbles = next((each for each in before_the_last if not _passes_again(each)), None)
    if stumbles is None or not transactional:
        return None
    shown = " ".join(stumbles.code.split())
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rstrip()} …"
    return script.finding(
        RULE,
        "warning",
        stumbles.line,
        f"The revision mixes what is committed at once with what is in a transaction. If it fails after `{shown}`, "
        "that is committed, and the next run starts the revision again from its beginning.",
        code.steps(
            "# Two revisions: one for what needs an autocommit block, one for the rest. Or let this pass when it comes",
            "# again, with IF NOT EXISTS, IF EXISTS, OR REPLACE or ON CONFLICT DO NOTHING:",
            f"op.execute({code.text(shown)})",
        ),
    )


def _parts(statements: Sequence[Statement]) -> tuple[list[list[Statement]], bool]:
    """What changes something, in the parts that are committed together; and whether a transaction has any of it."""
    parts: list[list[Statement]] = []
    in_transaction, transactional, part = True, False, list[Statement]()
    for statement in statements:
        match controls(statement):
            case "begins":
                in_transaction = True
            case "ends":
                in_transaction, part = False, []
            case None if _changes_something(statement):
                if not in_transaction or not part:
                    parts.append(part := [])
                part.append(statement)
                transactional |= in_transaction
                if not in_transaction:
                    part = []
    return parts, transactional


def _changes_something(statement: Statement) -> bool:
    words = statement.words
    if words[:1] == ("WITH",):
        return not {"INSERT", "UPDATE", "DELETE", "MERGE"}.isdisjoint(words)
    return bool(words) and words[0] not in _CHANGE_NOTHING


def _passes_again(statement: Statement) -> bool:
    """Whether it says itself that it may find its work done."""
    return not _PASS_AGAIN.isdisjoint(pairwise(statement.words))
