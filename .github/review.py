"""What migrations would do, for a reader: Markdown on stdout, from a plan in JSON (a file, or - for stdin).

python .github/review.py plan.json run.json   the comment of a pull request: the plan was made against a throw-away
                                              database at the base branch's heads, and the run on it afterwards
python .github/review.py plan.json            the plan of a deployment's own database, which is to be approved
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

MARK = "<!-- review-migrations -->"
"""By which the comment is found again."""
LONGEST_COMMENT, LONGEST_SUMMARY = 65_000, 250_000
"""Characters; GitHub takes 65,536 of a comment, and 1 MiB of a job's summary."""


def main(*files: str) -> None:
    """Write the comment for one file or two, each of which may hold a problem instead."""
    plan, *runs = (json.loads(sys.stdin.read() if file == "-" else Path(file).read_text()) for file in files)
    run = runs[0] if runs else None
    whole = comment(plan, run)
    longest = LONGEST_SUMMARY if run is None else LONGEST_COMMENT
    sys.stdout.write(whole if len(whole) <= longest else comment(plan, run, with_sql=False)[:longest])


def comment(plan: dict[str, Any], run: dict[str, Any] | None, *, with_sql: bool = True) -> str:
    """The comment; where it would be too long, without SQL."""
    if "digest" not in plan:
        return "\n\n".join([MARK, "### Migrations: no plan could be made", _problem(plan)]) + "\n"
    pending, modified = plan["pending"], plan["modified"]
    if not pending and not modified:
        return f"{MARK}\n\n### Migrations: nothing would run\n"
    worst = f"worst finding: {plan['level']}" if plan["level"] else "no findings"
    parts = [MARK, f"### Migrations: {len(pending)} to run, {worst}"]
    if modified:
        names = ", ".join(_code(each["revision"]) for each in modified)
        parts.append(
            f"**Edited after it was applied**: {names}. Where the old file was applied, the new text never runs."
        )
    if run is not None and "outcome" not in run:
        parts += ["**They do not run**, not even on an empty database at the base branch's heads.", _problem(run)]
    if not with_sql:
        parts.append("The SQL is too long to be shown here: `python -m app plan` prints it.")
    steps = {step["revision"]: step for step in (run or {}).get("applied", ())}
    for revision in pending:
        parts += _revision(revision, steps.get(revision["revision"]), with_sql=with_sql)
    lint = "squawk was not there: only the built-in rules" if plan["lint"] == "unavailable" else plan["lint"]
    if run is None:
        where = f"The digest of this plan, and of no other, is {_code(plan['digest'])}."
    else:
        where = (
            "Planned and run on an empty database at the base branch's heads, so durations say nothing of yours, and "
            "neither would a digest: the plan of the deployment's own database is reviewed before it is run."
        )
    parts.append(f"<sub>Linted by {_text(lint)}. {where}</sub>")
    return "\n\n".join(parts) + "\n"


def _revision(planned: dict[str, Any], step: dict[str, Any] | None, *, with_sql: bool) -> list[str]:
    kind = {True: "one transaction", False: "**not** in one transaction", None: "perhaps not in one transaction"}
    parts = [
        f"#### {_code(planned['revision'])} {_text(planned['message'])}",
        f"{_code(planned['file'])}, {kind[planned['transactional']]}",
    ]
    parts += [_finding(finding) for finding in planned["findings"]]
    facts = [f"- locks {_code(lock['relation'])} in {_code(lock['mode'])}" for lock in (step or {}).get("locks", ())]
    facts += [f"- writes every row of {_code(table)} anew, or empties it" for table in (step or {}).get("rewrote", ())]
    if facts:
        parts.append("\n".join(facts))
    if planned["unrendered"]:
        parts.append(f"Its SQL ends early: {_text(planned['unrendered'])}")
    if with_sql and planned["sql"].strip():
        parts.append(f"<details><summary>SQL</summary>\n\n{_block(planned['sql'], 'sql')}\n\n</details>")
    return parts


def _finding(finding: dict[str, Any]) -> str:
    rule = f"[{_code(finding['rule'])}]({finding['url']})" if finding["url"] else _code(finding["rule"])
    line = f", line {finding['line']}" if finding["line"] else ""
    told = f"- **{finding['level']}** {rule}{line}: {_text(finding['message'])}"
    if not finding["safe_way"]:
        return told
    return "\n".join([told, "", *(f"  {each}" for each in _block(finding["safe_way"], "python").splitlines())])


def _problem(problem: dict[str, Any]) -> str:
    said = [problem.get(member) for member in ("title", "detail", "hint")]
    return "\n\n".join(_text(str(each)) for each in said if each)


def _text(text: str) -> str:
    """On one line, and none of it Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    fence = "`" * (_longest_fence(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{' '.join(text.split())}{pad}{fence}"


def _block(text: str, language: str) -> str:
    fence = "`" * max(3, _longest_fence(text) + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _longest_fence(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
