"""How bad each of squawk's rules is here; docs/findings.md shows this table.

`danger` is what breaks the code that still serves, loses data, or locks readers and writers out of a table for as
long as it is read or written anew. `warning` can hurt on a large or busy table, or fails. `notice` is style. Squawk
itself calls nearly all of them a warning.
"""

from app.report import Level

LEVELS: dict[str, Level | None] = {
    "adding-field-with-default": "danger",  # writes the table anew under ACCESS EXCLUSIVE
    "adding-foreign-key-constraint": "warning",  # writers wait while it reads, readers do not
    "adding-not-nullable-field": "danger",
    "adding-required-field": "danger",
    "adding-serial-primary-key-field": "danger",
    "ban-add-column": "notice",
    "ban-add-composite-attribute": "warning",
    "ban-add-enum-value": "warning",
    "ban-alter-database-options": "warning",
    "ban-alter-domain-with-add-constraint": "warning",
    "ban-alter-extension": "warning",
    "ban-alter-function-options": "warning",
    "ban-alter-generated-expression": "danger",  # writes the table anew under ACCESS EXCLUSIVE
    "ban-alter-identity": "warning",
    "ban-alter-policy-condition": "warning",
    "ban-alter-policy-roles": "warning",
    "ban-alter-role-options": "warning",
    "ban-alter-row-level-security": "warning",
    "ban-alter-sequence-values": "warning",
    "ban-alter-system-options": "warning",
    "ban-alter-view-options": "warning",
    "ban-char-field": "notice",
    "ban-concurrent-index-creation-in-transaction": "warning",  # PostgreSQL refuses it
    "ban-create-domain-with-constraint": "notice",
    "ban-create-policy": "warning",
    "ban-detach-inheritance": "warning",
    "ban-disable-trigger": "warning",
    "ban-drop-column": "danger",
    "ban-drop-constraint": "warning",
    "ban-drop-database": "danger",
    "ban-drop-default": "warning",
    "ban-drop-domain": "warning",
    "ban-drop-extension": "warning",
    "ban-drop-function": "warning",
    "ban-drop-generated-expression": "warning",
    "ban-drop-index": "warning",
    "ban-drop-not-null": "warning",
    "ban-drop-policy": "warning",
    "ban-drop-schema": "danger",
    "ban-drop-sequence": "warning",
    "ban-drop-table": "danger",
    "ban-drop-trigger": "warning",
    "ban-drop-type": "danger",
    "ban-drop-view": "danger",
    "ban-duplicate-column-assignments": "warning",  # PostgreSQL refuses it
    "ban-new-write-restriction": "warning",
    "ban-replace-view-function": "warning",
    "ban-replica-identity": "warning",
    "ban-revoke": "warning",
    "ban-set-default": "notice",
    "ban-set-schema": "danger",
    "ban-truncate-cascade": "danger",
    "ban-uncommitted-transaction": "warning",
    "changing-column-type": "danger",
    "constraint-missing-not-valid": "danger",  # of a CHECK: reads the table under ACCESS EXCLUSIVE
    "disallowed-unique-constraint": "danger",
    "identifier-too-long": "notice",
    "prefer-bigint-over-int": "notice",
    "prefer-bigint-over-smallint": "notice",
    "prefer-identity": "notice",
    "prefer-repack": "danger",
    "prefer-robust-stmts": "warning",
    "prefer-text-field": "notice",
    "prefer-timestamp-tz": "notice",
    "renaming-column": "danger",
    "renaming-object": "danger",
    "renaming-table": "danger",
    "require-concurrent-index-creation": "warning",  # writers wait while it reads, readers do not
    "require-concurrent-index-deletion": "warning",
    "require-concurrent-partition-detach": "warning",
    "require-concurrent-reindex": "danger",  # planning any query wants the index that it locks
    "require-enum-value-ordering": "notice",
    "require-lock-timeout": None,
    "require-statement-timeout": None,
    "require-table-schema": "notice",
    "require-timeout-settings": None,
    "syntax-error": "warning",  # squawk's grammar is not PostgreSQL's, so it may be none
    "transaction-nesting": "warning",
}
"""None where it is not told: a run gives every transaction a lock_timeout, and what is left of its time."""

OF_USED_TABLES = {
    *("adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field"),
    *("adding-required-field", "adding-serial-primary-key-field", "ban-drop-column", "ban-drop-constraint"),
    *("ban-drop-default", "ban-drop-not-null", "ban-drop-table", "changing-column-type"),
    *("constraint-missing-not-valid", "disallowed-unique-constraint", "renaming-column", "renaming-table"),
    *("ban-set-schema", "require-concurrent-index-creation"),
}
"""The rules that have nothing to say of a table that the same plan has made: no code knows it, nobody waits for it."""

_BY_SQUAWKS_OWN: dict[str, Level] = {"Error": "danger", "Warning": "warning"}


def level(rule: str, squawks_own: str) -> Level | None:
    """The level of a rule; of one that a later squawk has brought, by squawk's own. None: it is not told."""
    return LEVELS[rule] if rule in LEVELS else _BY_SQUAWKS_OWN.get(squawks_own, "danger")
