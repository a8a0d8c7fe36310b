"""The objects of a schema, as pg_catalog has them: an SQL query for their names and definitions.

Each part of the query below is one kind of object and has the columns of `COLUMNS`. Names are what SQL's COMMENT ON
would take, so that nobody has to guess what is meant. What is inherited, by a partition or a child, is told by the
parent alone; what PostgreSQL makes by itself, such as the index of a constraint, by what it is made for.
"""

from app.database.literals import literal

SETTINGS = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off;"
"""To be sent with the query, since PostgreSQL writes names as these say: with the schema, unless it is looked up."""

COLUMNS = ("schema", "object", "part_of", "words", "body", "query")
"""The schema's name; the object's; that of the object it is a part of, or null; what it is, in a line; a body in its
author's own words; a query in the words that PostgreSQL chooses, which differ between major versions (`SELECT a` was
`SELECT t.a` before PostgreSQL 16), and for the rest of the columns do not."""


def query(*, ledger_schema: str, version_table: str) -> str:
    """A SELECT of every object.

    Args:
        ledger_schema: The ledger's, which is left out.
        version_table: Alembic's, with its schema, unquoted; left out too.
    """
    own = f"s.schema || '.' || c.relname = {literal(version_table)}"
    return (
        f"WITH schemas AS ({_SCHEMAS} AND nspname <> {literal(ledger_schema)}), "
        f"relations AS MATERIALIZED ({_RELATIONS} AND NOT {own}), "
        f"{_TYPES} {' UNION ALL '.join(_PARTS)}"
    )


_SCHEMAS = """
SELECT oid, nspname::text AS schema, CASE nspname WHEN 'public' THEN '' ELSE quote_ident(nspname) || '.' END AS prefix
FROM pg_namespace
WHERE NOT starts_with(nspname, 'pg_') AND nspname <> 'information_schema' AND has_schema_privilege(oid, 'CREATE')
"""


def _is_ours(catalog: str, oid: str) -> str:
    """No extension owns it (PostgreSQL manual, "pg_depend")."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend WHERE classid = '{catalog}'::regclass AND objid = {oid} AND deptype = 'e')"
    )


_RELATIONS = f"""
SELECT c.oid, c.relkind, c.relpersistence, c.relpartbound, c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
    c.reltype, s.schema, s.prefix, quote_ident(c.relname) AS name,
    CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'f' THEN 'foreign table '
    WHEN 'S' THEN 'sequence ' WHEN 'c' THEN 'type ' ELSE 'table ' END || s.prefix || quote_ident(c.relname) AS object
FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c') AND {_is_ours("pg_class", "c.oid")}
"""

_TYPES = f"""
types AS (
    SELECT t.*, s.schema, s.prefix || quote_ident(t.typname) AS name
    FROM pg_type t JOIN schemas s ON s.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd') AND {_is_ours("pg_type", "t.oid")}
)
"""

_TABLES = """
SELECT schema, object, NULL::text, concat_ws(', ',
    CASE relpersistence WHEN 'u' THEN 'unlogged' ELSE 'logged' END,
    'partitioned by ' || pg_get_partkeydef(oid),
    (SELECT CASE WHEN relpartbound IS NULL THEN 'inherits ' ELSE 'partition of ' END
        || string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = r.oid),
    pg_get_expr(relpartbound, oid),
    CASE WHEN relrowsecurity THEN 'row level security' END,
    CASE WHEN relforcerowsecurity THEN 'forced on its owner' END), NULL::text, NULL::text
FROM relations r WHERE relkind IN ('r', 'p', 'f')
"""

_TABLE_COLUMNS = """
SELECT r.schema, 'column ' || r.prefix || r.name || '.' || quote_ident(a.attname), r.object, concat_ws(' ',
    format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation::text END,
    CASE WHEN a.attnotnull THEN 'NOT NULL' END,
    'GENERATED ' || CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END || ' AS IDENTITY',
    CASE a.attgenerated WHEN '' THEN 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)
        ELSE 'GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ')'
        || CASE a.attgenerated WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END END), NULL, NULL
FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attislocal
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE r.relkind IN ('r', 'p', 'f')
"""

# Not what PostgreSQL 18 makes of NOT NULL ('n'), nor what stands behind a constraint trigger ('t').
_CONSTRAINTS = """
SELECT r.schema, 'constraint ' || quote_ident(k.conname) || ' on ' || r.prefix || r.name, r.object,
    pg_get_constraintdef(k.oid), NULL, NULL
FROM relations r JOIN pg_constraint k ON k.conrelid = r.oid
WHERE r.relkind IN ('r', 'p', 'f') AND k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conislocal
"""

_INDEXES = """
SELECT r.schema, 'index ' || r.prefix || quote_ident(c.relname), r.object,
    pg_get_indexdef(c.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END, NULL, NULL
FROM relations r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT c.relispartition
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
"""

_VIEWS = """
SELECT schema, object, NULL, coalesce(array_to_string(reloptions, ', '), 'without options'), NULL, pg_get_viewdef(oid)
FROM relations WHERE relkind IN ('v', 'm')
"""

# One that a column owns, as serial and identity ones are, is told by the column.
_SEQUENCES = """
SELECT r.schema, r.object, NULL, concat_ws(' ', format_type(q.seqtypid, NULL), 'from', q.seqstart, 'by', q.seqincrement,
    'in', q.seqmin, 'to', q.seqmax, CASE WHEN q.seqcycle THEN 'cycling' END), NULL, NULL
FROM relations r JOIN pg_sequence q ON q.seqrelid = r.oid
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i'))
"""

_COMPOSITE_TYPES = f"""
SELECT schema, object, NULL, (SELECT coalesce(string_agg(quote_ident(a.attname) || ' '
    || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum), 'empty') FROM pg_attribute a
    WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped), NULL, NULL
FROM relations r WHERE relkind = 'c' AND {_is_ours("pg_type", "r.reltype")}
"""

_ENUMS = """
SELECT schema, 'enum ' || name, NULL, (SELECT coalesce(string_agg(quote_literal(enumlabel), ', '
    ORDER BY enumsortorder), 'empty') FROM pg_enum WHERE enumtypid = types.oid), NULL, NULL
FROM types WHERE typtype = 'e'
"""

_DOMAINS = """
SELECT schema, 'domain ' || name, NULL, concat_ws(' ', format_type(typbasetype, typtypmod),
    CASE WHEN typcollation <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = types.typbasetype)
        THEN 'COLLATE ' || typcollation::regcollation::text END,
    CASE WHEN typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(typdefaultbin, 0),
    (SELECT string_agg('CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid), ' '
        ORDER BY conname COLLATE "C") FROM pg_constraint WHERE contypid = types.oid AND contype = 'c')), NULL, NULL
FROM types WHERE typtype = 'd'
"""

_FUNCTIONS = f"""
SELECT s.schema, CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || s.prefix || quote_ident(p.proname)
    || '(' || pg_get_function_identity_arguments(p.oid) || ')', NULL, concat_ws(' ',
    '(' || pg_get_function_arguments(p.oid) || ')', 'RETURNS ' || pg_get_function_result(p.oid),
    'LANGUAGE ' || quote_ident(l.lanname),
    CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' END,
    CASE WHEN p.proisstrict THEN 'STRICT' END, CASE WHEN p.prosecdef THEN 'SECURITY DEFINER' END,
    CASE p.proparallel WHEN 's' THEN 'PARALLEL SAFE' WHEN 'r' THEN 'PARALLEL RESTRICTED' END,
    CASE WHEN p.proleakproof THEN 'LEAKPROOF' END, 'SET ' || array_to_string(p.proconfig, ' SET ')),
    concat_ws(' ', p.probin, p.prosrc), pg_get_function_sqlbody(p.oid)
FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE p.prokind <> 'a' AND {_is_ours("pg_proc", "p.oid")}
"""

_TRIGGERS = """
SELECT r.schema, 'trigger ' || quote_ident(t.tgname) || ' on ' || r.prefix || r.name, r.object,
    pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' ENABLED ON REPLICA'
        WHEN 'A' THEN ' ENABLED ALWAYS' ELSE '' END, NULL, NULL
FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal AND t.tgparentid = 0
"""

_POLICIES = """
SELECT r.schema, 'policy ' || quote_ident(p.polname) || ' on ' || r.prefix || r.name, r.object, concat_ws(' ',
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    'FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
        ELSE 'ALL' END,
    'TO ' || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END, ', '
        ORDER BY role::regrole::text COLLATE "C") FROM unnest(p.polroles) role)), NULL,
    concat_ws(' ', 'USING ' || pg_get_expr(p.polqual, p.polrelid),
        'WITH CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid))
FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
"""

_PARTS = (
    _TABLES,
    _TABLE_COLUMNS,
    _CONSTRAINTS,
    _INDEXES,
    _VIEWS,
    _SEQUENCES,
    _COMPOSITE_TYPES,
    _ENUMS,
    _DOMAINS,
    _FUNCTIONS,
    _TRIGGERS,
    _POLICIES,
)
