"""squawk's remarks, told as findings."""

from bisect import bisect_right
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from app.lint import advice, levels
from app.lint.changes import action
from app.lint.script import Script
from app.lint.squawk import Remark
from app.lint.statements import Statement
from app.report import Finding, Level

_PAGES = {"prefer-timestamp-tz": "prefer-timestamptz"}
"""Where a rule's page is not called as the rule is."""

_MORE_EXACT = {"adding-foreign-key-constraint", "adding-serial-primary-key-field", "disallowed-unique-constraint"}
"""What these say of a constraint, `constraint-missing-not-valid` says again, of all but a CHECK wrongly."""


def findings(
    script: Script,
    remarks: Sequence[Remark],
    statements: Sequence[Statement],
    on_new_tables: AbstractSet[int],
    own: Sequence[Finding],
) -> list[Finding]:
    """What squawk has to say of a script, without what is said otherwise or does not hold here.

    Args:
        script: Whose it is.
        remarks: Of squawk.
        statements: Of the script.
        on_new_tables: The indexes of the statements that are about a table which the plan has made.
        own: The findings of our own rules.
    """
    if broken := next((remark for remark in remarks if remark.rule == "syntax-error"), None):
        return [_unread(script, broken)]
    starts = [statement.start for statement in statements]
    placed = []
    for remark in remarks:
        at = bisect_right(starts, remark.start) - 1
        placed.append((remark, at, action(statements[at], remark.start)))
    exact = {part.start for remark, _, part in placed if remark.rule in _MORE_EXACT}
    ours = {one.line: one.safe_way for one in own}
    found = []
    for remark, at, part in placed:
        level = _level(remark, statements[at], is_on_new_table=at in on_new_tables)
        if level is None or (remark.rule == "constraint-missing-not-valid" and part.start in exact):
            continue
        # The same way where both speak of the same statement: whoever reads only one of them is helped.
        safe_way = advice.safe_way(remark.rule, statements[at], part) or ours.get(remark.line) or remark.help
        found.append(_finding(script, remark, level, safe_way))
    return found


def _level(remark: Remark, statement: Statement, *, is_on_new_table: bool) -> Level | None:
    if not (is_on_new_table and remark.rule in levels.OF_USED_TABLES):
        return levels.level(remark.rule, remark.level)
    # The other table of a foreign key may be in use: its writers wait for as long as the new one is read.
    return "notice" if "REFERENCES" in statement.words else None


def _finding(script: Script, remark: Remark, level: Level, safe_way: str | None) -> Finding:
    return Finding(
        revision=script.revision,
        rule=remark.rule,
        level=level,
        line=remark.line,
        message=remark.message,
        safe_way=safe_way,
        source="squawk",
        url=f"https://squawkhq.com/docs/{_PAGES.get(remark.rule, remark.rule)}",
    )


def _unread(script: Script, broken: Remark) -> Finding:
    """Squawk reads all of a script or nothing of it, and stumbles on after the first error."""
    message = f"Squawk does not understand this line ({broken.message}), so it has checked nothing of this revision."
    told = _finding(script, broken, levels.level(broken.rule, broken.level) or "warning", broken.help)
    return told.model_copy(update={"message": message})
