"""Which database this is, for a digest: the same as long as it is this one, another for a copy by pg_dump.

The cluster's identifier, which initdb makes up, and the database's OID in it. A copy of the whole cluster's files (a
replica, a snapshot, a restore to a point in time) keeps both, and only differs in what it holds. A branch of
Neon is a copy of the cluster, identifier and all; Neon names it in `neon.timeline_id`.
"""

from app.database import deferred

TIMELINE = "nullif(current_setting('neon.timeline_id', true), '')"
"""An SQL expression: the branch of Neon that this is; null elsewhere."""

_CLUSTER = deferred.word("system_identifier::text", "pg_control_system()")

EXPRESSION = (
    "concat_ws('/', (SELECT oid FROM pg_database WHERE datname = current_database()), "
    f"CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') THEN {_CLUSTER} END, {TIMELINE})"
)
"""An SQL expression: the identity. Of the cluster it says nothing where a provider keeps its identifier to itself."""
