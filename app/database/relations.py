"""Relations looked up by name, by functions alone.

A new connection knows nothing of the catalogs yet, and to plan its first query over some of them takes PostgreSQL
milliseconds: it reads up on their indexes, statistics and operators. These functions look into the caches that the
server keeps for itself, one or two rows each.
"""

from app.database.literals import identifier, literal


def oid_of(schema: str, name: str) -> str:
    """An SQL expression: a relation's OID; null where there is none, or the role may not use the schema."""
    # to_regnamespace takes any schema; to_regclass fails in one that the role may not use.
    may_use = f"has_schema_privilege(to_regnamespace({literal(identifier(schema))})::oid, 'USAGE')"
    relation = f"to_regclass({literal(f'{identifier(schema)}.{identifier(name)}')})::oid"
    return f"CASE WHEN {may_use} THEN {relation} END"


def is_readable(schema: str, name: str) -> str:
    """An SQL condition: the relation is there, and the role may read it; null where it is not."""
    return f"has_table_privilege({oid_of(schema, name)}, 'SELECT')"


def schema_of(found: str) -> str:
    """An SQL expression: the schema in which the search path finds a relation; null where it finds none.

    Args:
        found: The relation, as SQL text.
    """
    relation = f"to_regclass({literal(found)})::oid"
    return f"(pg_identify_object_as_address('pg_class'::regclass, {relation}, 0)).object_names[1]"
