"""A statement that was written for Athena, Trino, Spark or BigQuery, as DuckDB's SQL.

sqlglot translates; what it would leave different in meaning is in two tables: `FUNCTIONS`, which
writes Trino's functions with DuckDB's, and `_REWRITES`. A function that DuckDB has not is named.
Source of what Trino's functions mean: its documentation, https://trino.io/docs/current/functions.html;
the tests hold the answers against its examples.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.parsers.trino import TrinoParser

from archiver.errors import QueryError
from archiver.query.statement import PARSER
from archiver.query.times_of_joda import strftime_of

VIEW_NAMES: Final = ("events", "alerts", "supplements", "quarantine", "commits")
LONGEST_PASTED: Final = 65_536  # characters; some ten microseconds each
_DEEPEST_NESTING: Final = 64

_URL: Final = "'^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?"
_HOST: Final = r"(\[[^\]]*\]|[^/?#:]*)"

# `list_distinct` gives them in any order, Trino in that of the list.
_FIRSTS: Final = "list_filter(:a, LAMBDA x, i: list_position(:a, x) = i)"

# Name -> number of arguments -> the same in DuckDB's SQL, `:a`, `:b` and `:c` for the arguments.
FUNCTIONS: Final[dict[str, dict[int, str]]] = {
    "ALL_MATCH": {2: "len(list_filter(:a, :b)) = len(:a)"},
    "ANY_MATCH": {2: "len(list_filter(:a, :b)) > 0"},
    "APPROX_DISTINCT": {1: "approx_count_distinct(:a)", 2: "approx_count_distinct(:a)"},
    "APPROX_PERCENTILE": {2: "approx_quantile(:a, :b)"},
    "ARBITRARY": {1: "any_value(:a)"},
    "ARRAYS_OVERLAP": {2: "list_has_any(:a, :b)"},
    "ARRAY_DISTINCT": {1: _FIRSTS},
    "ARRAY_UNION": {2: _FIRSTS.replace(":a", "list_concat(:a, :b)")},
    "AT_TIMEZONE": {2: "CAST(:a AS TIMESTAMPTZ) AT TIME ZONE :b"},
    "BOOL_AND": {1: "bool_and(:a)"},
    "CODEPOINT": {1: "unicode(:a)"},
    "DATE_DIFF": {3: "date_sub(:a, :b, :c)"},
    "EVERY": {1: "bool_and(:a)"},
    "FROM_UNIXTIME": {1: "to_timestamp(:a)", 2: "to_timestamp(:a) AT TIME ZONE :b"},
    "INFINITY": {0: "CAST('inf' AS DOUBLE)"},
    "JSON_EXTRACT": {2: "CASE WHEN json_valid(:a) THEN json_extract(:a, :b) END"},
    "JSON_EXTRACT_SCALAR": {
        2: "CASE WHEN json_valid(:a) THEN CASE WHEN json_type(:a, :b) NOT IN ('OBJECT', 'ARRAY') "
        "THEN json_extract_string(:a, :b) END END"
    },
    "JSON_FORMAT": {1: "CAST(:a AS VARCHAR)"},
    "JSON_PARSE": {1: "CAST(:a AS JSON)"},
    "JSON_SIZE": {
        2: "CASE json_type(:a, :b) WHEN 'ARRAY' THEN json_array_length(:a, :b) "
        "WHEN 'OBJECT' THEN len(json_keys(:a, :b)) ELSE 0 END"
    },
    "MILLISECOND": {1: "extract(millisecond FROM :a) % 1000"},
    "NAN": {0: "CAST('nan' AS DOUBLE)"},
    "NONE_MATCH": {2: "len(list_filter(:a, :b)) = 0"},
    "REGEXP_EXTRACT": {
        2: "CASE WHEN regexp_matches(:a, :b) THEN regexp_extract(:a, :b) END",
        3: "CASE WHEN regexp_matches(:a, :b) THEN regexp_extract(:a, :b, :c) END",
    },
    "REGEXP_SPLIT": {2: "string_split_regex(:a, :b)"},
    "SLICE": {3: "list_slice(:a, :b, :b + :c - 1)"},
    "TO_ISO8601": {1: "strftime(CAST(:a AS TIMESTAMPTZ) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%gZ')"},
    "TO_MILLISECONDS": {1: "epoch_ms(:a)"},
    "TO_UNIXTIME": {1: "epoch(:a)"},
    "URL_ENCODE": {1: "replace(replace(replace(url_encode(:a), '%20', '+'), '~', '%7E'), '%2A', '*')"},
    "URL_EXTRACT_FRAGMENT": {1: "nullif(regexp_extract(:a, '#(.*)$', 1), '')"},
    "URL_EXTRACT_HOST": {1: f"nullif(regexp_extract(:a, {_URL}{_HOST}', 1), '')"},
    "URL_EXTRACT_PARAMETER": {
        2: "CASE WHEN regexp_matches(:a, '[?&]' || regexp_escape(:b) || '=') THEN url_decode("
        "regexp_extract(:a, '[?&]' || regexp_escape(:b) || '=([^&#]*)', 1)) END"
    },
    "URL_EXTRACT_PATH": {1: "regexp_extract(:a, '^[A-Za-z][A-Za-z0-9+.-]*:(?://[^/?#]*)?([^?#]*)', 1)"},
    "URL_EXTRACT_PORT": {1: f"TRY_CAST(regexp_extract(:a, {_URL}{_HOST}:([0-9]+)', 2) AS BIGINT)"},
    "URL_EXTRACT_PROTOCOL": {1: "nullif(regexp_extract(:a, '^([A-Za-z][A-Za-z0-9+.-]*):', 1), '')"},
    "URL_EXTRACT_QUERY": {1: r"nullif(regexp_extract(:a, '\?([^#]*)', 1), '')"},
    "WITH_TIMEZONE": {2: "CAST(:a AS TIMESTAMP) AT TIME ZONE :b"},
    "ZIP": {2: "list_zip(:a, :b)"},
}
_SPECIAL: Final = ("FORMAT", "REGEXP_REPLACE", "FORMAT_DATETIME", "PARSE_DATETIME", "DATE_ADD")
_PARTS: Final = {
    "DOW": "ISODOW",
    "DAYOFWEEK": "ISODOW",
    "DAY_OF_WEEK": "ISODOW",
    "DAY_OF_MONTH": "DAY",
    "DAY_OF_YEAR": "DOY",
    "YEAR_OF_WEEK": "ISOYEAR",
    "YOW": "ISOYEAR",
}
_INTEGERS: Final = "^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER)$"


class _Trino(Trino):
    """Trino's SQL, with the functions of the tables above left as they are called."""

    class Parser(TrinoParser):
        FUNCTIONS: ClassVar = {
            name: made
            for name, made in TrinoParser.FUNCTIONS.items()
            if name not in FUNCTIONS and name not in _SPECIAL
        }


def to_duckdb(statement: str, dialect: str) -> str:
    """Return `statement` in DuckDB's SQL; see `dialect.from_dialect`."""
    _refuse_monsters(statement)
    try:
        found = sqlglot.parse(statement, read=_Trino if dialect in ("athena", "trino") else dialect)
    except (SqlglotError, RecursionError) as error:
        raise _no_sql(error, dialect) from error
    trees = [one for one in found if one is not None and not isinstance(one, exp.Semicolon)]
    if len(trees) != 1:
        raise QueryError(f"one statement is expected, found {len(trees) or 'none'}")
    if not isinstance(trees[0], exp.Query):
        raise QueryError(f"{dialect}: only a SELECT is translated", hint="it reads the archive's views")
    try:
        tree = _named(trees[0])
        if dialect in ("athena", "trino"):
            tree = _rewritten(tree)
        text = tree.sql("duckdb", comments=False, unsupported_level=ErrorLevel.RAISE)
    except (SqlglotError, RecursionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_sql(error, dialect) from error
    _refuse_unknown(text)
    return text


def _refuse_monsters(statement: str) -> None:
    if len(statement) > LONGEST_PASTED:
        raise QueryError(f"a statement of {len(statement):,} characters; {LONGEST_PASTED:,} are translated")
    if "\0" in statement:
        raise QueryError("a statement with a NUL in it")
    depth = deepest = 0
    for char in re.findall(r"[()\[\]{}]", statement):
        depth += 1 if char in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > _DEEPEST_NESTING:
        raise QueryError(f"a statement with more than {_DEEPEST_NESTING} brackets within each other")


def _no_sql(error: Exception, dialect: str) -> QueryError:
    if isinstance(error, RecursionError):
        return QueryError("a statement that is nested too deeply to be translated")
    why = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(str(error).split()))[:300]
    return QueryError(f"this cannot be translated from {dialect}: {why}")


def _named(tree: exp.Expr) -> exp.Expr:
    """Write `"AwsDataCatalog"."database"."events"` as `events`."""
    own = {one.alias_or_name for one in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        name = table.name.lower()
        if not isinstance(table.this, exp.Identifier) or (table.name in own and not table.db):
            continue
        if name not in VIEW_NAMES:
            raise QueryError(
                f"no view is called {table.name!r:.60}", hint=f"there are: {', '.join(VIEW_NAMES)}"
            )
        table.set("this", exp.to_identifier(name))
        table.set("db", None)
        table.set("catalog", None)
    for column in tree.find_all(exp.Column):
        for part in ("db", "catalog"):
            column.set(part, None)
    return tree


def _rewritten(tree: exp.Expr) -> exp.Expr:
    tree = annotate_types(tree, dialect=_Trino)
    root = exp.Subquery(this=tree)
    for part in list(root.walk(bfs=False))[::-1]:
        for kind, rewrite in _REWRITES:
            if isinstance(part, kind) and (other := rewrite(part)) is not None:
                other.type = part.type
                part.replace(other)
                break
    return root.this  # type: ignore[no-any-return]


def _made(template: str, *arguments: exp.Expr) -> exp.Expr:
    """Return an expression of DuckDB's, with `arguments` for `:a`, `:b` and `:c`."""
    made = exp.Paren(this=sqlglot.parse_one(template, read="duckdb"))
    given = dict(zip("abc", arguments, strict=False))
    for one in list(made.find_all(exp.Placeholder)):
        argument = given[one.name]
        bare = isinstance(argument, exp.Column | exp.Literal | exp.Func | exp.Lambda | exp.Array)
        one.replace(argument.copy() if bare else exp.paren(argument))
    return made


def _function(one: exp.Anonymous) -> exp.Expr | None:
    name, arguments = one.name.upper(), one.expressions
    if name in FUNCTIONS:
        if name.startswith("JSON_") and len(arguments) > 1 and isinstance(arguments[1], exp.Literal):
            path = re.sub(r'\["([^"]*)"\]', r'."\1"', arguments[1].name)  # as DuckDB writes it
            arguments = [arguments[0], exp.Literal.string(path)]
        template = FUNCTIONS[name].get(len(arguments))
        if template is None:
            raise SqlglotError(f"{name.lower()} with {len(arguments)} arguments")
        return _made(template, *arguments)
    return _SPECIALS[name](one) if name in _SPECIALS else None


def _literal_text(one: exp.Expr, what: str) -> str:
    if not isinstance(one, exp.Literal) or not one.is_string:
        raise SqlglotError(f"{what} must be a literal")
    return one.name


def _replaced(one: exp.Anonymous) -> exp.Expr:
    text, pattern = one.expressions[:2]
    with_what = one.expressions[2] if len(one.expressions) > 2 else exp.Literal.string("")
    told = _literal_text(with_what, "the replacement of regexp_replace").replace("\\", "\\\\")
    if re.search(r"\$\{|\$[0-9]{2}", told):
        raise SqlglotError("regexp_replace with a named group, or one beyond 9")
    groups = exp.Literal.string(re.sub(r"\$([0-9])", r"\\\1", told))
    return _made("regexp_replace(:a, :b, :c, 'g')", text, pattern, groups)


def _formatted(one: exp.Anonymous) -> exp.Expr:
    what, pattern = one.expressions
    form = exp.Literal.string(strftime_of(_literal_text(pattern, "the pattern")))
    if one.name.upper() == "FORMAT_DATETIME":
        return _made("strftime(:a, :b)", what, form)
    return _made("CAST(strptime(:a, :b) AS TIMESTAMPTZ)", what, form)


def _added(one: exp.Anonymous) -> exp.Expr:
    unit, count, what = one.expressions
    part = _literal_text(unit, "the unit of date_add").upper()
    if part not in ("MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"):
        raise SqlglotError(f"date_add by {part.lower()}")
    moved = _made(f":b + (:a) * INTERVAL 1 {part}", count, what)
    return exp.cast(moved, "DATE") if what.is_type("date") else moved


def _moved(one: exp.Add | exp.Sub) -> exp.Expr | None:
    """A DATE and an interval are a DATE in Trino."""
    sides = (one.this, one.expression)
    if not any(isinstance(side, exp.Interval) for side in sides) or isinstance(one.parent, exp.Cast):
        return None
    return exp.cast(one.copy(), "DATE") if any(side.is_type("date") for side in sides) else None


def _truncated(one: exp.TimestampTrunc | exp.DateTrunc) -> exp.Expr | None:
    is_done = isinstance(one.parent, exp.Cast)
    return exp.cast(one.copy(), "DATE") if one.this.is_type("date") and not is_done else None


def _divided(one: exp.Div) -> exp.Expr | None:
    """Whole numbers are divided to a whole number; of what type a column is, only DuckDB knows."""
    left, right = one.this, one.expression
    kinds = [side.type.this if side.type else exp.DType.UNKNOWN for side in (left, right)]
    if all(kind in exp.DataType.INTEGER_TYPES for kind in kinds):
        return exp.IntDiv(this=left.copy(), expression=right.copy())
    if any(kind in (exp.DType.DOUBLE, exp.DType.FLOAT, exp.DType.DECIMAL) for kind in kinds):
        return exp.Div(this=left.copy(), expression=right.copy(), typed=False, safe=False)
    if isinstance(one.parent, exp.If):  # made below
        return None
    is_whole = " AND ".join(f"regexp_matches(typeof(:{name}), '{_INTEGERS}')" for name in "ab")
    return _made(f"CASE WHEN {is_whole} THEN :a // :b ELSE :a / :b END", left, right)


def _extracted(one: exp.Extract) -> exp.Expr | None:
    part = _PARTS.get(one.name.upper())
    return exp.Extract(this=exp.Var(this=part), expression=one.expression.copy()) if part else None


def _zoned(one: exp.AtTimeZone) -> exp.Expr | None:
    if isinstance(one.this, exp.Cast) and one.this.is_type("timestamptz"):
        return None
    instant = exp.cast(one.this.copy(), "TIMESTAMPTZ")
    return exp.AtTimeZone(this=instant, zone=one.args["zone"].copy())


def _cast_of_json(one: exp.Cast) -> exp.Expr | None:
    """`CAST(json AS VARCHAR)` is the text of a JSON string in Trino, without its quotes."""
    what = one.this.unnest()
    is_json = what.is_type("json") or any(
        isinstance(part, exp.JSONExtract)
        for part in what.find_all(exp.JSONExtract)
        if what is not part.parent
    )
    if isinstance(what, exp.Case) and is_json and one.is_type("varchar", "text"):
        return _made("json_extract_string(:a, '$')", what)
    return None


def _reduced(one: exp.Reduce) -> exp.Expr | None:
    """DuckDB has no last step: it is made of the one element of a list."""
    last = one.args.get("finish")
    if last is None:
        return None
    bare = one.copy()
    bare.set("finish", None)
    return _made("list_transform([:a], :b)[1]", bare, last)


def _unnested(one: exp.Unnest) -> exp.Expr | None:
    if len(one.expressions) != 1:
        raise SqlglotError("UNNEST of several arrays at once")
    return None


_SPECIALS: Final[dict[str, Callable[[exp.Anonymous], exp.Expr]]] = {
    "FORMAT": lambda one: exp.Anonymous(this="printf", expressions=[part.copy() for part in one.expressions]),
    "REGEXP_REPLACE": _replaced,
    "FORMAT_DATETIME": _formatted,
    "PARSE_DATETIME": _formatted,
    "DATE_ADD": _added,
}
_REWRITES: Final[tuple[tuple[Any, Callable[[Any], exp.Expr | None]], ...]] = (
    (exp.Anonymous, _function),
    (exp.Div, _divided),
    ((exp.Add, exp.Sub), _moved),
    ((exp.TimestampTrunc, exp.DateTrunc), _truncated),
    (exp.Extract, _extracted),
    (exp.AtTimeZone, _zoned),
    (exp.Cast, _cast_of_json),
    (exp.Reduce, _reduced),
    (exp.Unnest, _unnested),
)


@functools.cache
def _known_functions() -> frozenset[str]:
    with duckdb.connect(":memory:", config={"threads": 1}) as own:
        rows = own.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()").fetchall()
    return frozenset(str(row[0]) for row in rows)


def _refuse_unknown(text: str) -> None:
    pending: list[Any] = [PARSER.tree(text)]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            pending.extend(node.values())
            name = str(node.get("function_name", "")).lower()
            if name[:1].isalpha() and name not in _known_functions():
                raise QueryError(f"the function {name!r:.60} has no equal here that is known")
