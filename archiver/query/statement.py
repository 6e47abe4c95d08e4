"""May this statement run? Exactly one that reads, by DuckDB's own parser.

The type of a statement is not enough: a SELECT may begin `WITH x AS (COPY … TO …)`, and
then it writes, over a file of the archive too. So its syntax tree is looked through as
well, and only what is known to read may stand in it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import duckdb

from archiver.errors import QueryError

LONGEST_STATEMENT: Final = 262_144  # characters; the parser takes some kilobytes of memory for each
_DEEPEST_NESTING: Final = 1_000

_READING_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
# A table function that is not here is refused: some run text as a statement, change
# the session or open files.
_TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_settings",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "histogram",
        "histogram_values",
        "icu_calendar_names",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_table_info",
        "range",
        "repeat",
        "repeat_row",
        "summary",
        "unnest",
    }
)
_EXPLAIN: Final = re.compile(
    r"\s*explain(?:\s+analyze)?(?:\s*\(\s*(?:analyze|format)[a-z_,\s]*\))?\s+(?P<explained>.*)",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_PARSER: Final[dict[str, Any]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "threads": 1,
}
_HINT: Final = "one SELECT (or EXPLAIN, DESCRIBE, SUMMARIZE, SHOW) over the archive's views"
_TREE: Final = """
    WITH parsed AS (SELECT json_serialize_sql(?::VARCHAR) AS tree)
    SELECT nodes.key, nodes.atom::VARCHAR, nodes.path
    FROM parsed, json_tree(parsed.tree) AS nodes
    WHERE nodes.key IN ('error', 'type', 'info_type', 'function_name')
"""


def checked(statement: str) -> str:
    """Return the one statement in `statement`, which reads and does nothing else.

    Raises:
        QueryError: It is none, or more than one, or not only reading, or not SQL.
    """
    _refuse_monsters(statement)
    parser = duckdb.connect(":memory:", config=_PARSER)
    try:
        return _checked(parser, statement)
    except duckdb.Error as error:
        raise QueryError(str(error).rstrip()) from error
    finally:
        parser.close()


def tree_of(statement: str) -> dict[str, Any] | None:
    """Return the syntax tree of a statement that was checked; None where there is none to be had."""
    explained = _EXPLAIN.fullmatch(statement)
    parser = duckdb.connect(":memory:", config=_PARSER)
    try:
        text = explained["explained"] if explained is not None else statement
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchone()
        tree = json.loads(row[0]) if row is not None else {}
    except (duckdb.Error, ValueError, RecursionError):
        return None
    finally:
        parser.close()
    return tree if isinstance(tree, dict) and not tree.get("error", True) else None


def _refuse_monsters(statement: str) -> None:
    if len(statement) > LONGEST_STATEMENT:
        raise QueryError(f"a statement of {len(statement):,} characters, more than {LONGEST_STATEMENT:,}")
    if "\0" in statement:
        raise QueryError("a statement with a NUL in it")
    try:
        statement.encode()
    except UnicodeEncodeError:
        raise QueryError("a statement that is not Unicode text") from None
    depth = 0
    for char in re.findall(r"[()\[\]{}]", statement):
        depth += 1 if char in "([{" else -1
        if depth > _DEEPEST_NESTING:
            raise QueryError(f"a statement with more than {_DEEPEST_NESTING:,} brackets within each other")


def _checked(parser: duckdb.DuckDBPyConnection, statement: str) -> str:
    found = parser.extract_statements(statement)
    if len(found) != 1:
        raise QueryError(f"one statement is expected, found {len(found) or 'none'}", hint=_HINT)
    one, kind = found[0].query, found[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains.
        inner = _EXPLAIN.fullmatch(one)
        if inner is None:
            raise QueryError("an EXPLAIN of an unusual form", hint="EXPLAIN [ANALYZE] SELECT …")
        parts = parser.extract_statements(inner["explained"])
        if len(parts) != 1 or parts[0].type != duckdb.StatementType.SELECT:
            raise QueryError("EXPLAIN of a statement that does not only read", hint=_HINT)
        _refuse_writes(parser, parts[0].query)
    elif kind == duckdb.StatementType.SELECT:
        _refuse_writes(parser, one)
    elif kind == duckdb.StatementType.MULTI:
        raise QueryError(
            "this PIVOT makes several statements",
            hint="name the values: PIVOT … ON column IN (…), or use FILTER",
        )
    else:
        raise QueryError(f"a statement of type {kind.name} is not allowed", hint=_HINT)
    return str(one)


def _refuse_writes(parser: duckdb.DuckDBPyConnection, select: str) -> None:
    for key, value, path in parser.execute(_TREE, [select]).fetchall():
        said = str(value).strip('"')
        if key == "error" and path == "$" and said != "false":
            raise QueryError("a statement that is not a plain SELECT", hint=_HINT)
        if key == "info_type" or (key == "type" and said.endswith("NODE") and said not in _READING_NODES):
            raise QueryError("a statement that does not only read: something in it writes", hint=_HINT)
        if key == "function_name" and path.endswith(".function") and said.lower() not in _TABLE_FUNCTIONS:
            raise QueryError(
                f"the table function {said:.60} is not allowed",
                hint="the views are events, alerts, supplements, quarantine and commits",
            )
