"""SQL for other engines than DuckDB: a named query as text for one, and a pasted statement from one.

What runs on DuckDB is the query's own text, with its values bound. Every other engine gets a
translation by sqlglot with the values as literals, and with what sqlglot leaves different in
meaning put right in `portable.py` and `pasted.py`. sqlglot is imported when it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from archiver.errors import ConfigError, QueryError
from archiver.query.catalog import Query, Value
from archiver.query.statement import LONGEST_STATEMENT

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

DIALECTS: Final = ("athena", "trino", "spark", "bigquery", "duckdb")
"""Those that a query can be printed for."""
FOREIGN: Final = DIALECTS[:-1]
"""Those that a statement can be pasted from."""

_SAID: Final = {
    "athena": "Athena keeps milliseconds of times, and does not show what supplements add to events.",
    "trino": "Times are instants; the table is made by `archiver ddl trino`.",
    "spark": "Days and hours are those of the session: SET TIME ZONE 'UTC'.",
    "bigquery": "The table is made by `archiver ddl bigquery`.",
}


def translate(query: Query, values: Mapping[str, Value], dialect: str) -> str:
    """Return the text of `query` for another engine, with `values` in their places.

    A condition `$name IS NULL OR …` is settled: it is left out, or what is behind OR stays, so
    that comparisons with `workspace` and `dt` are plain and engines prune partitions by them.

    Args:
        values: As `Query.bind` gives them. Texts may hold anything but a NUL.
        dialect: One of `DIALECTS`.

    Raises:
        ConfigError: There is no such dialect, or a text that no engine takes.
        QueryError: Something in the query has no equal there, or the text is too long for it.
    """
    check(dialect, DIALECTS)
    for name, value in values.items():
        if isinstance(value, str) and not _is_sendable(value):
            raise ConfigError(f"{name}: a text with a NUL or a lone surrogate cannot be written as SQL")
    statement = f"{_header(query, values, dialect)}\n{_body(query, values, dialect)}"
    if len(statement.encode()) > LONGEST_STATEMENT:
        raise QueryError(f"{query.name}: longer than {LONGEST_STATEMENT:,} bytes for {dialect}")
    return statement


def select_of(query: Query, values: Mapping[str, Value], dialect: str) -> Expr:
    """Return what `translate` prints as a tree, for a view that is made of it."""
    from archiver.query import portable  # noqa: PLC0415 - sqlglot takes its time

    return portable.tree(query.name, query.statement, values, dialect)


def from_dialect(statement: str, dialect: str) -> str:
    """Return a statement that was written for another engine as DuckDB's SQL.

    What comes back is one statement whose meaning was looked after, but not whether it may run:
    that is for `checked`, which every statement of a session goes through.

    Args:
        dialect: One of `FOREIGN`.

    Raises:
        QueryError: It is no SQL of that dialect, too long, too deep, or uses what DuckDB has no
            equal for; named in the message.
    """
    check(dialect, FOREIGN)
    from archiver.query import pasted  # noqa: PLC0415 - sqlglot takes its time

    return pasted.to_duckdb(statement, dialect)


def check(dialect: str, known: tuple[str, ...]) -> None:
    """Refuse a dialect that is none of `known`."""
    if dialect not in known:
        raise ConfigError(f"no dialect is called {dialect!r:.40}", hint=f"there are: {', '.join(known)}")


def _body(query: Query, values: Mapping[str, Value], dialect: str) -> str:
    from archiver.query import portable  # noqa: PLC0415 - sqlglot takes its time

    return portable.text(select_of(query, values, dialect), dialect)


def _is_sendable(text: str) -> bool:
    return "\0" not in text and not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


def _header(query: Query, values: Mapping[str, Value], dialect: str) -> str:
    lines = [f"{query.title}. {query.answers}"]
    lines += [f"{name} = {_shown(value)}" for name, value in values.items() if not name.endswith("_day")]
    if dialect in _SAID:
        lines.append(_SAID[dialect])
    return "\n".join(f"-- {line}" for line in lines)


def _shown(value: Value) -> str:
    """Write a value into a comment: nothing in it can end the line."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ").replace("+00:00", " UTC")
    return json.dumps(value).replace("$", "\\u0024")  # nor is it a variable of Spark
