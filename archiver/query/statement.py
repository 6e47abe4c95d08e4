"""May this statement run? Exactly one that reads, by DuckDB's own parser.

The type of a statement is not enough: a SELECT may begin `WITH x AS (COPY … TO …)`, and
then it writes, over a file of the archive too. So its syntax tree is looked through as
well, and only what is known to read may stand in it.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final

import duckdb

from archiver.errors import QueryError
from archiver.query.escaping import shown

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
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TELLING: Final = ("error", "type", "info_type", "function_name")
_MEMBERS: Final = """
    WITH parsed AS (SELECT CAST(? AS JSON) AS tree)
    SELECT nodes.key, nodes.atom->>'$', regexp_extract(nodes.path, '([a-z_]*)$', 1)
    FROM parsed, json_tree(parsed.tree) AS nodes
    WHERE nodes.key IN ('error', 'type', 'info_type', 'function_name')
"""


class Parser:
    """DuckDB's own parser, in a locked connection that runs no statement. Safe to use from several threads.

    To open a connection takes longer than all that is done here, so that one is kept.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            connection = duckdb.connect(":memory:", config=_PARSER)
            for setting in ("TimeZone='UTC'", "Calendar='gregorian'", "lock_configuration=true"):
                connection.execute(f"SET {setting}")
            self._connection = connection
        return self._connection

    def hold(self) -> None:
        """Wait until no thread uses it, and let none until `release`."""
        self._lock.acquire()

    def release(self) -> None:
        """See `hold`."""
        self._lock.release()

    def checked(self, statement: str) -> str:
        """Return the one statement in `statement`, which reads and does nothing else.

        Raises:
            QueryError: It is none, or more than one, or not only reading, or not SQL.
        """
        _refuse_monsters(statement)
        with self._lock:
            try:
                return _checked(self._opened(), statement)
            except duckdb.Error as error:
                raise QueryError("\n".join(map(shown, str(error).rstrip().split("\n")))) from error

    def tree(self, statement: str) -> dict[str, Any] | None:
        """Return the syntax tree of a statement that was checked; None where there is none to be had."""
        explained = _EXPLAIN.fullmatch(statement)
        text = explained["explained"] if explained is not None else statement
        try:
            with self._lock:
                row = self._opened().execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchone()
            tree = json.loads(row[0]) if row is not None else {}
        except (duckdb.Error, ValueError, RecursionError):
            return None
        return tree if isinstance(tree, dict) and not tree.get("error", True) else None

    def evaluate(
        self, expressions: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]] | None:
        """Return of each its type, its text, and the instant that it is; None if one cannot be evaluated.

        Args:
            expressions: As `tree` has them, made of nothing that could do anything; each has
                its place as its alias: `c0`, `c1`.
            values: Of the parameters in them.
        """
        said = [f"c{place}" for place in range(len(expressions))]
        told = ", ".join(
            f"typeof({c}), CAST({c} AS VARCHAR), epoch_us(TRY_CAST(CAST({c} AS VARCHAR) AS TIMESTAMPTZ))"
            for c in said
        )
        try:
            whole = self.tree("SELECT 1") or {}
            whole["statements"][0]["node"]["select_list"] = list(expressions)
            with self._lock:
                own = self._opened()
                text = own.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(whole)]).fetchone()
                row = own.execute(f"SELECT {told} FROM ({text[0]})", dict(values)).fetchone()  # type: ignore[index]  # noqa: S608 - as DuckDB wrote it
        except (duckdb.Error, ValueError, TypeError, OverflowError, RecursionError):
            return None
        if row is None:
            return None
        return [row[start : start + 3] for start in range(0, len(row), 3)]


PARSER: Final = Parser()
# A process that is forked while another thread has the parser could never have it.
os.register_at_fork(before=PARSER.hold, after_in_parent=PARSER.release, after_in_child=PARSER.release)


def folded(name: str) -> str:
    """Return a name as DuckDB compares it: only the letters from A to Z have another case."""
    return name.translate(_LOWER)


def checked(statement: str) -> str:
    """See `Parser.checked`."""
    return PARSER.checked(statement)


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
    one, kind = found[0].query, _kind_of(found[0])
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains.
        inner = _EXPLAIN.fullmatch(one)
        if inner is None:
            raise QueryError("an EXPLAIN of an unusual form", hint="EXPLAIN [ANALYZE] SELECT …")
        parts = parser.extract_statements(inner["explained"])
        if len(parts) != 1 or _kind_of(parts[0]) != duckdb.StatementType.SELECT:
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


def _kind_of(statement: duckdb.Statement) -> duckdb.StatementType:
    try:
        return statement.type
    except ValueError:  # DuckDB knows more of them than its Python module: UPDATE EXTENSIONS
        raise QueryError("a statement of an unusual kind is not allowed", hint=_HINT) from None


def _refuse_writes(parser: duckdb.DuckDBPyConnection, select: str) -> None:
    row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [select]).fetchone()
    text = row[0] if row is not None else ""
    if not text.startswith('{"error":false,'):
        raise QueryError("a statement that is not a plain SELECT", hint=_HINT)
    for inside, key, value in _members(parser, text):
        if key == "info_type" or (key == "type" and value.endswith("NODE") and value not in _READING_NODES):
            raise QueryError("a statement that does not only read: something in it writes", hint=_HINT)
        if key == "function_name" and inside == "function" and value.lower() not in _TABLE_FUNCTIONS:
            raise QueryError(
                f"the table function {shown(value[:60])} is not allowed",
                hint="the views are events, alerts, supplements, quarantine and commits",
            )


def _members(parser: duckdb.DuckDBPyConnection, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the telling members of a syntax tree: the member that holds the node, its own name, its value."""
    try:
        tree = json.loads(text)
    except RecursionError:  # of several hundred UNIONs; DuckDB can walk it, in a few milliseconds more
        yield from (
            (inside, key, str(said)) for key, said, inside in parser.execute(_MEMBERS, [text]).fetchall()
        )
        return
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        inside, one = pending.pop()
        if isinstance(one, list):
            pending += ((inside, part) for part in one)
        elif isinstance(one, dict):
            yield from ((inside, key, str(one[key])) for key in _TELLING if key in one)
            pending += one.items()
