"""A query in DuckDB's SQL as a tree that means the same on another engine.

sqlglot knows how functions are called elsewhere. What is here is what it leaves different in
meaning: parameters, the truth of a condition on one, intervals, seconds since 1970, days of
the week, JSON, division, patterns, aliases in GROUP BY, the order of nulls in windows.

Known hole: half a surrogate pair in a JSON text (`"\\ud83d"`) makes it no JSON to DuckDB; Trino and
Spark read it, and put `?` or another character there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from archiver.errors import QueryError
from archiver.query.catalog import Value

Rewrite = Callable[[Any, str], exp.Expr | None]

_TRINO: Final = ("athena", "trino")
_SPANS: Final = {"to_seconds": "SECOND", "to_minutes": "MINUTE", "to_hours": "HOUR", "to_days": "DAY"}
_PARTS: Final = {"SECONDS": 1, "MILLISECONDS": 1_000, "MICROSECONDS": 1_000_000}
_INSTANT: Final = {
    "athena": "TIMESTAMP '{} UTC'",
    "trino": "TIMESTAMP '{} UTC'",
    "spark": "TIMESTAMP '{}Z'",
    "bigquery": "TIMESTAMP '{}+00'",
    "duckdb": "TIMESTAMPTZ '{}+00'",
}


def tree(name: str, statement: str, values: Mapping[str, Value], dialect: str) -> exp.Expr:
    """Return `statement`, of the query `name`, with values and meaning as `dialect` writes them."""
    try:
        found = sqlglot.parse_one(statement, read="duckdb")
        if not isinstance(found, exp.Query):
            raise SqlglotError("it is no SELECT, or more than one")
        _bind(found, values, dialect)
        found = _settled(found)
        if dialect != "duckdb":
            _rewrite(found, dialect)
    except (SqlglotError, RecursionError) as error:
        raise _untranslated(name, dialect, error) from error
    return found


def text(parsed: exp.Expr, dialect: str) -> str:
    """Write a tree that was made for `dialect`."""
    try:
        return parsed.sql(dialect, pretty=True, unsupported_level=ErrorLevel.RAISE)
    except (SqlglotError, RecursionError, AttributeError) as error:  # a window's name, in 30.30
        raise _untranslated("the statement", dialect, error) from error


def _untranslated(name: str, dialect: str, error: Exception) -> QueryError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return QueryError(f"{name} cannot be written for {dialect}: {why}")


def _bind(found: exp.Expr, values: Mapping[str, Value], dialect: str) -> None:
    for test in list(found.find_all(exp.Is)):
        if isinstance(test.this, exp.Placeholder) and isinstance(test.expression, exp.Null):
            test.replace(exp.Boolean(this=_value_of(test.this, values) is None))
    for one in list(found.find_all(exp.Placeholder)):
        one.replace(_literal(_value_of(one, values), dialect))


def _value_of(one: exp.Placeholder, values: Mapping[str, Value]) -> Value:
    if one.name not in values:
        raise SqlglotError(f"no value for ${one.name}")
    return values[one.name]


def _literal(value: Value, dialect: str) -> exp.Expr:
    if value is None:
        return exp.Null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, datetime):
        return exp.Var(this=_INSTANT[dialect].format(_digits(value)))
    if isinstance(value, str):
        return _string(value, dialect)
    # A fraction without an exponent is a decimal on most engines, and counts otherwise.
    told = repr(abs(value)) if isinstance(value, int) else f"{abs(value)!r}E0".replace("e", "E", 1)
    if isinstance(value, float) and told.count("E") > 1:
        told = told.removesuffix("E0")
    number = exp.Literal.number(told)
    return exp.Paren(this=exp.Neg(this=number)) if value < 0 else number


def _digits(value: datetime) -> str:
    """Write an instant with no more digits than it has, but milliseconds, which all engines take."""
    shown = value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return shown.removesuffix("000")


def _string(value: str, dialect: str) -> exp.Expr:
    # Spark puts variables in place of `${…}` before it parses, in literals too.
    parts = value.replace("${", "$\0{").split("\0") if dialect == "spark" else [value]
    found: exp.Expr = exp.Literal.string(parts[0])
    for part in parts[1:]:
        found = exp.DPipe(this=found, expression=exp.Literal.string(part), safe=True)
    return exp.Paren(this=found) if len(parts) > 1 else found


def _settled(found: exp.Expr) -> exp.Expr:
    """Leave out what is true or false whatever the row: `TRUE AND x` is x."""

    def settle(one: exp.Expr) -> exp.Expr:
        inner = one.unnest() if isinstance(one, exp.Paren) else one
        if isinstance(one, exp.Paren) and isinstance(inner, exp.Boolean):
            return inner
        if isinstance(one, exp.Not) and isinstance(one.this, exp.Boolean):
            return exp.Boolean(this=not one.this.this)
        if isinstance(one, exp.And | exp.Or):
            decides = isinstance(one, exp.Or)
            for side, other in ((one.left, one.right), (one.right, one.left)):
                if isinstance(side, exp.Boolean):
                    return exp.Boolean(this=decides) if bool(side.this) == decides else other
        return one

    def bare(one: exp.Expr) -> exp.Expr:
        if isinstance(one, exp.Paren) and isinstance(one.parent, exp.And | exp.Where | exp.Paren):
            plain = (exp.Predicate, exp.Boolean, exp.Paren)
            return one.this if isinstance(one.this, plain) and not one.this.comments else one
        return one

    for part in list(found.walk(bfs=False))[::-1]:
        settled = settle(part)
        if settled is not part and part.parent is not None:
            part.replace(settled.copy())
    for part in list(found.find_all(exp.Paren))[::-1]:
        plain = bare(part)
        if plain is not part:
            part.replace(plain.copy())
    for where in list(found.find_all(exp.Where, exp.Having)):
        if isinstance(where.this, exp.Boolean) and where.this.this:
            where.pop()
    return found


def _rewrite(found: exp.Expr, dialect: str) -> None:
    for select in list(found.find_all(exp.Select)):
        if dialect in _TRINO:
            _without_aliases(select)
    for part in list(found.walk(bfs=False))[::-1]:
        for kind, rewrite in _REWRITES:
            if isinstance(part, kind) and (other := rewrite(part, dialect)) is not None:
                if part.parent is not None:
                    part.replace(other)
                break


def _without_aliases(select: exp.Select) -> None:
    """Put the expression for its alias where Trino knows only the input's columns."""
    read = {one.name for part in select.expressions for one in part.find_all(exp.Column)}
    named = {
        one.alias: one.this
        for one in select.expressions
        if isinstance(one, exp.Alias) and not isinstance(one.this, exp.Column) and one.alias not in read
    }
    for part in ("group", "having", "where"):
        for one in list(select.args[part].find_all(exp.Column)) if select.args.get(part) else ():
            if not one.table and one.name in named:
                wanted = named[one.name].copy()
                grouped = isinstance(one.parent, exp.Group)
                one.replace(wanted if grouped else exp.Paren(this=wanted))


def _span(one: exp.Mul, dialect: str) -> exp.Expr | None:
    for count, span in ((one.this, one.expression), (one.expression, one.this)):
        if not isinstance(span, exp.Interval) or not isinstance(span.this, exp.Literal):
            continue
        if isinstance(count, exp.Literal) and not count.is_string and span.this.name.isdigit():
            whole = int(span.this.name) * int(count.name)
            return _interval(exp.Literal.string(str(whole)), span, dialect)
        if dialect == "bigquery" and span.this.name == "1":
            return exp.Interval(this=count.copy(), unit=span.unit)
    return None


def _interval(count: exp.Expr, span: exp.Interval, dialect: str) -> exp.Expr:
    if dialect == "bigquery" and isinstance(count, exp.Literal):
        count = exp.Literal.number(count.name)
    return exp.Interval(this=count, unit=span.unit)


def _bare_interval(one: exp.Interval, dialect: str) -> exp.Expr | None:
    if isinstance(one.this, exp.Literal):
        return _interval(one.this.copy(), one, dialect) if dialect == "bigquery" else None
    if dialect == "bigquery" or one.this is None:
        return None
    unit = exp.Interval(this=exp.Literal.string("1"), unit=one.unit)
    return exp.Paren(this=exp.Mul(this=exp.paren(one.this.copy()), expression=unit))


def _seconds(one: exp.TimeToUnix, dialect: str) -> exp.Expr | None:
    return _since_1970(one.this, "SECONDS", dialect)


def _since_1970(what: exp.Expr, unit: str, dialect: str) -> exp.Expr:
    what = what.unnest()
    if isinstance(what, exp.Sub):
        sides = (_since_1970(side, unit, dialect) for side in (what.this, what.expression))
        left, right = sides
        return exp.Paren(this=exp.Sub(this=left, expression=exp.paren(right)))
    if dialect in _TRINO:
        seconds = exp.Anonymous(this="TO_UNIXTIME", expressions=[what.copy()])
        if unit == "SECONDS":
            return seconds
        scaled = exp.Mul(this=seconds, expression=exp.Literal.number(f"{_PARTS[unit]}E0"))
        return exp.cast(
            exp.Round(this=scaled) if unit == "MICROSECONDS" else exp.Floor(this=scaled), "BIGINT"
        )
    micros = exp.Anonymous(this="UNIX_MICROS", expressions=[what.copy()])
    if unit == "MICROSECONDS":
        return micros
    if unit == "MILLISECONDS":
        return exp.Anonymous(this="UNIX_MILLIS", expressions=[what.copy()])
    return exp.Paren(this=exp.Div(this=micros, expression=exp.Literal.number("1000000E0"), typed=True))


def _from_1970(one: exp.UnixToTime, dialect: str) -> exp.Expr | None:
    if one.args.get("scale") is not None:
        return None
    if dialect in _TRINO:
        return exp.Anonymous(this="FROM_UNIXTIME", expressions=[one.this.copy(), exp.Literal.string("UTC")])
    if dialect == "spark":
        return exp.Anonymous(this="TIMESTAMP_SECONDS", expressions=[one.this.copy()])
    seconds = one.this if isinstance(one.this, exp.Column | exp.Literal | exp.Func) else exp.paren(one.this)
    scaled = exp.Mul(this=seconds.copy(), expression=exp.Literal.number("1000000E0"))
    return exp.Anonymous(this="TIMESTAMP_MICROS", expressions=[exp.cast(scaled, "BIGINT")])


def _called(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[one.copy() for one in arguments])


def _weekday(what: exp.Expr, dialect: str, *, iso: bool) -> exp.Expr:
    """Return 1 for Monday to 7 for Sunday, or 0 for Sunday to 6 for Saturday."""
    shown = what.sql(dialect)
    told = {
        "spark": f"WEEKDAY({shown}) + 1" if iso else f"(WEEKDAY({shown}) + 1) % 7",
        "bigquery": f"MOD(EXTRACT(DAYOFWEEK FROM {shown}) + 5, 7) + 1"
        if iso
        else f"EXTRACT(DAYOFWEEK FROM {shown}) - 1",
    }.get(dialect, f"DAY_OF_WEEK({shown})" if iso else f"DAY_OF_WEEK({shown}) % 7")
    return exp.Paren(this=exp.Var(this=told))


def _extracted(one: exp.Extract, dialect: str) -> exp.Expr | None:
    part = one.name.upper()
    if part in ("ISODOW", "DOW", "DAYOFWEEK", "WEEKDAY"):
        return _weekday(one.expression, dialect, iso=part == "ISODOW")
    return _since_1970(one.expression, "SECONDS", dialect) if part == "EPOCH" else None


def _anonymous(one: exp.Anonymous, dialect: str) -> exp.Expr | None:
    name = one.name.lower()
    if name in _SPANS and len(one.expressions) == 1:
        span = exp.Interval(this=exp.Literal.string("1"), unit=exp.Var(this=_SPANS[name]))
        product = exp.Mul(this=exp.paren(one.expressions[0].copy()), expression=span)
        return _span(product, dialect) or exp.Paren(this=product)
    if name in ("epoch_us", "epoch_ms"):
        return _since_1970(one.expressions[0], "MICROSECONDS" if name[-2] == "u" else "MILLISECONDS", dialect)
    if name == "json_valid":
        if dialect in _TRINO:
            parsed = _called("TRY", _called("JSON_PARSE", one.expressions[0]))
        elif dialect == "spark":
            parsed = _called("GET_JSON_OBJECT", one.expressions[0], exp.Literal.string("$"))
        else:
            parsed = _called("SAFE.PARSE_JSON", one.expressions[0])
        return exp.Paren(this=exp.Not(this=exp.Is(this=parsed, expression=exp.Null())))
    if name.startswith(("list_", "array_", "json_", "regexp_")) or name in ("strftime", "arg_max_null"):
        raise SqlglotError(f"{name}() has no equal there that is known")
    return None


def _json(one: exp.JSONExtractScalar | exp.JSONExtract, dialect: str) -> exp.Expr | None:
    """Write `'$[*].a.b'`: of each element of an array what is there, as a list of texts."""
    path = one.expression
    parts = list(path.expressions) if isinstance(path, exp.JSONPath) else []
    if not any(isinstance(part, exp.JSONPathWildcard | exp.JSONPathSubscript) for part in parts):
        return None
    root, stars, rest = parts[0], parts[1:2], parts[2:]
    if not (
        isinstance(one, exp.JSONExtractScalar)
        and isinstance(stars[0], exp.JSONPathSubscript)
        and isinstance(stars[0].this, exp.JSONPathWildcard)
        and all(isinstance(part, exp.JSONPathKey) for part in rest)
    ):
        return None
    inner = exp.JSONPath(expressions=[root.copy(), *(part.copy() for part in rest)])
    element = exp.column("element")
    scalar = exp.JSONExtractScalar(this=element, expression=inner)
    shown, source = scalar.sql(dialect), one.this.sql(dialect)
    told = {
        "spark": f"TRANSFORM(FROM_JSON({source}, 'array<string>'), element -> {shown})",
        "bigquery": f"ARRAY(SELECT {shown} FROM UNNEST(JSON_QUERY_ARRAY({source})) AS element "  # noqa: S608 - of trees
        f"WHERE {shown} IS NOT NULL)",
    }.get(dialect, f"TRANSFORM(CAST(JSON_PARSE({source}) AS ARRAY(JSON)), element -> {shown})")
    if dialect != "bigquery":
        told = f"FILTER({told}, element -> element IS NOT NULL)"
    return exp.Var(this=told)


def _division(one: exp.Div, dialect: str) -> exp.Expr | None:
    if one.args.get("typed") or (dialect == "bigquery" and not one.find(exp.Literal)):
        return None
    left = one.this.unnest()
    done = isinstance(left, exp.Cast) and left.is_type("double")
    divided = one.this.copy() if done else exp.cast(left.copy(), "DOUBLE")
    return exp.Div(this=divided, expression=one.expression.copy(), typed=True, safe=False)


def _pattern(one: exp.Like, dialect: str) -> exp.Expr | None:
    r"""Where `\` escapes in a pattern, write it twice: DuckDB has no escape unless one is named."""
    if dialect in _TRINO or isinstance(one.parent, exp.Escape):
        return None
    pattern = one.expression
    if isinstance(pattern, exp.Literal):
        if "\\" not in pattern.name:
            return None
        doubled: exp.Expr = exp.Literal.string(pattern.name.replace("\\", "\\\\"))
    else:
        doubled = _called("REPLACE", pattern, exp.Literal.string("\\"), exp.Literal.string("\\\\"))
    return exp.Like(this=one.this.copy(), expression=doubled)


def _escaped(one: exp.Escape, dialect: str) -> exp.Expr | None:
    if dialect != "bigquery" or not isinstance(one.this, exp.Like):
        return None
    mark, pattern = one.expression.name, one.this.expression
    if not isinstance(pattern, exp.Literal):
        raise SqlglotError("LIKE … ESCAPE with a pattern that is no literal")
    told, rest = "", pattern.name
    while rest:
        taken = rest[:2] if rest[0] == mark else rest[:1]
        told += "\\" + taken[1:] if len(taken) == 2 else taken.replace("\\", "\\\\")
        rest = rest[len(taken) :]
    return exp.Like(this=one.this.this.copy(), expression=exp.Literal.string(told))


def _extreme(one: exp.Greatest | exp.Least, dialect: str) -> exp.Expr | None:
    """Where one null makes all null, put another argument in its place: DuckDB passes nulls over."""
    arguments = [one.this, *one.expressions]
    if dialect == "spark" or len(arguments) < 2:
        return None
    turned = [arguments[n:] + arguments[:n] for n in range(len(arguments))]
    filled = [
        exp.Coalesce(this=first.copy(), expressions=[other.copy() for other in rest])
        for first, *rest in turned
    ]
    return type(one)(this=filled[0], expressions=filled[1:], ignore_nulls=False)


def _filtered(one: exp.Filter, dialect: str) -> exp.Expr | None:
    if dialect != "bigquery":
        return None
    wanted = one.expression.this.copy()
    aggregate: exp.Expr = one.this.copy()
    if isinstance(aggregate, exp.Count) and isinstance(aggregate.this, exp.Star):
        return exp.CountIf(this=wanted)
    inner = aggregate.this.expressions[0] if isinstance(aggregate.this, exp.Distinct) else aggregate.this
    inner.replace(exp.If(this=wanted, true=inner.copy(), false=exp.Null()))
    return aggregate


def _ordered(one: exp.Order, dialect: str) -> exp.Expr | None:
    """In windows and aggregates BigQuery has no NULLS LAST: `x IS NULL, x` is the same."""
    if dialect != "bigquery" or not isinstance(one.parent, exp.Window | exp.GroupConcat | exp.ArrayAgg):
        return None
    keys: list[exp.Expr] = []
    for key in one.expressions:
        last, down = not key.args.get("nulls_first"), bool(key.args.get("desc"))
        if last != down:
            is_null = exp.Is(this=key.this.copy(), expression=exp.Null())
            keys.append(exp.Ordered(this=is_null, desc=not last, nulls_first=last))
        keys.append(exp.Ordered(this=key.this.copy(), desc=down, nulls_first=not down))
    return exp.Order(this=one.this.copy() if one.this else None, expressions=keys)


def _joined(one: exp.GroupConcat, dialect: str) -> exp.Expr | None:
    if dialect != "spark":
        return None
    what, order = one.this, None
    if isinstance(what, exp.Order):
        what, order = what.this, what.expressions
    if order is not None and (len(order) != 1 or order[0].this != what or order[0].args.get("desc")):
        raise SqlglotError("string_agg ordered by something else than its text")
    listed = _called("COLLECT_SET" if isinstance(what, exp.Distinct) else "COLLECT_LIST", what)
    separator = one.args.get("separator") or exp.Literal.string(",")
    return _called("ARRAY_JOIN", _called("ARRAY_SORT", listed) if order else listed, separator)


def _rows(one: exp.CTE, _: str) -> exp.Expr | None:
    """Name the columns of VALUES where they stand: `WITH c (a) AS (VALUES …)`."""
    named = one.args["alias"].args.get("columns")
    values = one.this.find(exp.Values) if isinstance(one.this, exp.Select | exp.Values) else None
    if not named or values is None:
        return None
    alias = exp.TableAlias(this=one.args["alias"].this.copy(), columns=[name.copy() for name in named])
    rows = exp.Values(expressions=[row.copy() for row in values.expressions], alias=alias)
    cte: exp.Expr = exp.CTE(
        this=exp.select("*").from_(rows), alias=exp.TableAlias(this=one.args["alias"].this.copy())
    )
    return cte


_REWRITES: Final[tuple[tuple[Any, Rewrite], ...]] = (
    (exp.Mul, _span),
    (exp.Interval, _bare_interval),
    (exp.TimeToUnix, _seconds),
    (exp.UnixToTime, _from_1970),
    (exp.DayOfWeekIso, lambda one, dialect: _weekday(one.this, dialect, iso=True)),
    (exp.DayOfWeek, lambda one, dialect: _weekday(one.this, dialect, iso=False)),
    (exp.Extract, _extracted),
    ((exp.JSONExtractScalar, exp.JSONExtract), _json),
    (exp.Div, _division),
    (exp.Escape, _escaped),
    (exp.Like, _pattern),
    ((exp.Greatest, exp.Least), _extreme),
    (exp.Filter, _filtered),
    (exp.Order, _ordered),
    (exp.GroupConcat, _joined),
    (exp.CTE, _rows),
    (exp.Anonymous, _anonymous),
)
