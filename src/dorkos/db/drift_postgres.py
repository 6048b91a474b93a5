"""PostgreSQL's catalogue, in the server's own words for columns, constraints and indexes."""

from __future__ import annotations

import sqlalchemy as sa

_COLUMNS = """
SELECT c.relname, c.relkind::text, a.attname,
       format_type(a.atttypid, a.atttypmod)
       || CASE WHEN co.collname IS NOT NULL AND a.attcollation <> t.typcollation
               THEN ' COLLATE ' || quote_ident(co.collname) ELSE '' END
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || CASE WHEN d.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END
       || CASE WHEN a.attidentity <> '' THEN ' IDENTITY ' || a.attidentity::text ELSE '' END
       || CASE WHEN a.attgenerated <> '' THEN ' GENERATED ' || a.attgenerated::text ELSE '' END
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

# NOT NULL is told with its column; its constraint (since version 18) has a name that the server makes up.
_CONSTRAINTS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = current_schema()::regnamespace AND k.contype <> 'n'
"""

_INDEXES = """
SELECT c.relname, i.relname,
       replace(replace(pg_get_indexdef(i.oid), ' ON ' || quote_ident(current_schema()) || '.', ' ON '),
               ' ON pg_temp.', ' ON ')
       || CASE WHEN x.indisvalid THEN '' ELSE ' INVALID' END
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE c.relnamespace = current_schema()::regnamespace
"""

_TRIGGERS = """
SELECT c.relname, g.tgname, pg_get_triggerdef(g.oid)
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
WHERE c.relnamespace = current_schema()::regnamespace AND NOT g.tgisinternal
"""


def catalogue(connection: sa.Connection) -> dict[str, dict[str, str]]:
    """The facts of every table and view in the current schema."""
    found: dict[str, dict[str, str]] = {}
    for table, kind, column, text in connection.exec_driver_sql(_COLUMNS):
        facts = found.setdefault(table, {"kind": kind})
        facts[f"column {column}"] = text
    for what, query in (("constraint", _CONSTRAINTS), ("index", _INDEXES), ("trigger", _TRIGGERS)):
        for table, name, text in connection.exec_driver_sql(query):
            found.setdefault(table, {})[f"{what} {name}"] = text
    return found
