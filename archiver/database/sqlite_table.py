"""What SQLite says of a table: its columns, and whether its rowids tell the order of commits."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final, Literal

from archiver.database.mapping import Column
from archiver.database.settings import Database
from archiver.database.sqlite_connection import SqliteConnection
from archiver.errors import ConfigError

Affinity = Literal["text", "integer", "real", "numeric", "none"]

_HIDDEN: Final = 1  # a column of a virtual table; 2 and 3 are generated ones
# AUTOINCREMENT is reserved: where it stands by itself it is the keyword.
_WORDS: Final = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] | --[^\n]* | /\*.*?(?:\*/|\Z)
    | ([^\W\d]\w*)""",
    re.X | re.S,
)
_REMEDY: Final = (
    "SQLite cannot add it to a table: create one anew, with `INTEGER PRIMARY KEY AUTOINCREMENT`, copy the"
    " rows in the order of their rowids, and rename it"
)


@dataclass(frozen=True, slots=True)
class SqliteTable:
    """A table whose rowids ascend in the order of commits and never come again.

    Attributes:
        name: As the database has it.
        relation: As it stands behind FROM. It has the alias `t`, and columns are always named with
            it: SQLite takes a quoted name that it does not know for a text.
        rowid: The column that is the rowid.
        columns: In their order.
        affinities: What each column makes of what is written into it, by its name.
    """

    name: str
    relation: str
    rowid: str
    columns: tuple[Column, ...]
    affinities: dict[str, Affinity]


def quoted(name: str) -> str:
    """Return an identifier as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def named(column: str) -> str:
    """Return a column of the table as it stands in a statement."""
    return f"t.{quoted(column)}"


def describe(connection: SqliteConnection, source: Database) -> SqliteTable:
    """Look the configured table up, and refuse one of which rows could be lost.

    Raises:
        ConfigError: There is none of that name, or it is unfit: says why.
        DatabaseError: The file cannot be read.
    """
    here = f"source {source.name}"
    if source.query is not None:
        raise ConfigError(
            f"{here}: a query of SQLite cannot be archived: nothing tells in which order its rows were"
            " committed",
            hint="name the table; columns are chosen with `columns` and `exclude`, and a generated column can"
            " compute what is missing",
        )
    name, kind, is_without_rowid, is_strict = _found(connection, source)
    if kind != "table":
        raise ConfigError(
            f"{here}: {name!r:.120} is a {kind}{'' if kind == 'view' else ' table'}, which has no rowids of"
            " its own",
            hint="name the table that holds the rows",
        )
    if is_without_rowid:
        raise ConfigError(
            f"{here}: {name!r:.120} is a table WITHOUT ROWID: nothing tells in which order its rows were"
            " committed",
            hint=_REMEDY.replace("add it to", "give a rowid to"),
        )
    columns = connection.rows(
        "SELECT name, type, pk FROM pragma_table_xinfo(?, 'main') WHERE hidden <> ? ORDER BY cid",
        name, _HIDDEN,
    )  # fmt: skip
    sql = str(connection.value("SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?", name))
    if not is_autoincrement(sql):
        raise ConfigError(
            f"{here}: {name!r:.120} has no AUTOINCREMENT: when its newest rows are deleted, new rows get the"
            " same rowids, and would be passed over",
            hint=_REMEDY,
        )
    rowid = next(column for column, _, key in columns if key)
    for key, given in (("position", (source.position,) if source.position else ()), ("key", source.key)):
        if any(one.lower() != rowid.lower() for one in given):
            raise ConfigError(
                f"{here} {key}: rows of SQLite are read by their rowid, which is {rowid!r:.80} here",
                hint=f"leave `{key}` out",
            )
    return SqliteTable(
        name=name,
        relation=f"main.{quoted(name)} AS t",
        rowid=rowid,
        columns=tuple(Column(column, typ) for column, typ, _ in columns),
        affinities={column: affinity(typ, is_strict=is_strict) for column, typ, _ in columns},
    )


def column_names(connection: SqliteConnection, table: str) -> tuple[str, ...]:
    """Return the names of the table's columns, as they are now, in their order."""
    found = connection.rows(
        "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden <> ? ORDER BY cid", table, _HIDDEN
    )
    return tuple(name for (name,) in found)


def _found(connection: SqliteConnection, source: Database) -> tuple[str, str, bool, bool]:
    """Return the table's name as the database has it, its kind, and whether it is WITHOUT ROWID, STRICT."""
    tables = {
        name: (kind, bool(is_without_rowid), bool(is_strict))
        for name, kind, is_without_rowid, is_strict in connection.rows(
            "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main'"
            " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name"
        )
    }
    wanted = source.table or ""
    for one in (wanted, wanted.removeprefix("main.")):
        for name, found in tables.items():
            if _folded(name) == _folded(one):
                return name, *found
    close = difflib.get_close_matches(wanted, list(tables), 1)
    there = f"did you mean {close[0]}?" if close else f"there are: {', '.join(list(tables)[:60]) or 'none'}"
    raise ConfigError(
        f"source {source.name}: there is no table {wanted!r:.120} ({there})",
        hint="nothing was taken, and the cursor is where it was",
    )


def _folded(name: str) -> str:
    """Return a name as SQLite compares it: only the letters of ASCII have no case."""
    return name.translate({code: code + 32 for code in range(ord("A"), ord("Z") + 1)})


def is_autoincrement(sql: str) -> bool:
    """Whether the statement that created a table has the keyword AUTOINCREMENT, not as a name or a text."""
    return any((found[1] or "").upper() == "AUTOINCREMENT" for found in _WORDS.finditer(sql))


def affinity(declared: str, *, is_strict: bool = False) -> Affinity:
    """Return what a column does to the values written into it.

    Source: SQLite's manual, "Determination Of Column Affinity" and "STRICT Tables".
    """
    name = declared.upper()
    if "INT" in name:
        return "integer"
    if any(one in name for one in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in name or not name or (is_strict and name == "ANY"):
        return "none"
    if any(one in name for one in ("REAL", "FLOA", "DOUB")):
        return "real"
    return "numeric"
