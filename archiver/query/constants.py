"""What the parts of a statement that name no column are worth, before the statement runs.

DuckDB itself says so, in a locked connection, of expressions that are made of constants,
parameters and a short list of functions that depend on nothing else. What depends on the
present moment is evaluated a day earlier and a day later: the truth lies between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from archiver import clock
from archiver.query.statement import Parser, folded

_MOST: Final = 256  # expressions evaluated for one statement
_NOWS: Final = (timedelta(days=-1), timedelta(days=1))
# None whose result can be much longer than what it is given: no limit of memory or time holds here.
_FUNCTIONS: Final = frozenset(
    {"+", "-", "*", "/", "//", "%", "||", "abs", "ceil", "concat", "date_add", "date_diff", "date_sub"}
    | {"date_trunc", "datediff", "epoch_ms", "floor", "from_hex", "greatest", "last_day", "least", "left"}
    | {"lower", "ltrim", "make_date", "make_timestamp", "make_timestamptz", "nullif", "right"}
    | {"round", "rtrim", "strftime", "strptime", "substr", "substring", "timezone", "to_days", "to_hours"}
    | {"to_microseconds", "to_milliseconds", "to_minutes", "to_months", "to_seconds", "to_timestamp"}
    | {"to_weeks", "to_years", "trim", "trunc", "upper"}
)
_TYPES: Final = frozenset(
    {"bigint", "bool", "boolean", "char", "date", "datetime", "double", "float", "hugeint", "int", "integer"}
    | {"interval", "smallint", "string", "text", "timestamp", "timestamp with time zone", "timestamptz"}
    | {"timestamp_s", "timestamp_ms", "timestamp_us", "timestamp_ns", "varchar"}
)
# How the present moment can stand in a statement, and what stands for it while it is evaluated.
_PRESENT: Final = {
    "now": "present_instant",
    "get_current_timestamp": "present_instant",
    "current_timestamp": "present_instant",
    "transaction_timestamp": "present_instant",
    "today": "present_day",
    "current_date": "present_day",
    "current_localtimestamp": "present_local",
    "localtimestamp": "present_local",
}
# Along these an expression only grows, or only falls, with the moment.
_MONOTONE: Final = frozenset({"+", "-", "date_trunc", "date_add", "date_sub"})
_MONOTONE_TYPES: Final = frozenset({"date", "timestamp", "timestamptz", "timestamp with time zone"})
_OF_TIME: Final = frozenset(  # what can be compared with an instant
    {"VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}
    | {"TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
)
_DAY_FORMAT: Final = "%Y-%m-%d"
_OPERATORS: Final = frozenset(
    {"CONJUNCTION_AND", "CONJUNCTION_OR", "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}
    | {"OPERATOR_COALESCE", "COMPARE_IN"}
)
_COMPARISONS: Final = (
    *("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN"),
    *("COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO"),
)
_MEMBERS: Final = {
    **dict.fromkeys(("VALUE_CONSTANT", "VALUE_PARAMETER", "COLUMN_REF"), ()),
    **dict.fromkeys(_COMPARISONS, ("left", "right")),
    "OPERATOR_CAST": ("child",),
    "COMPARE_BETWEEN": ("input", "lower", "upper"),
}


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression is worth: one value, or two between which it lies.

    Attributes:
        kind: DuckDB's name of its type.
        low, high: As text; None is NULL.
        low_us, high_us: As instants in microseconds since 1970; None if it is none.
    """

    kind: str
    low: str | None
    high: str | None
    low_us: int | None = None
    high_us: int | None = None

    @property
    def is_null(self) -> bool:
        return self.low is None and self.high is None

    @property
    def text(self) -> str | None:
        """The text that this surely is; None if it is none."""
        return self.low if self.kind == "VARCHAR" and self.low == self.high else None

    @property
    def truth(self) -> bool | None:
        """Whether a condition holds; one that is NULL does not. None if it is no condition."""
        if self.is_null:
            return False
        return self.low == "true" if self.kind == "BOOLEAN" and self.low == self.high else None


class Constants:
    """The constant expressions of one statement: first all are named, then evaluated, then known."""

    def __init__(self, parser: Parser, parameters: Sequence[Any] | Mapping[str, Any] | None) -> None:
        given = parameters if parameters is not None else ()
        if not isinstance(given, Mapping):
            given = {str(number): value for number, value in enumerate(given, start=1)}
        self._parser = parser
        self._parameters = {folded(str(name)): value for name, value in given.items()}
        self._asked: dict[int, dict[str, Any]] = {}
        self._known: dict[int, Value] = {}

    def of(self, node: dict[str, Any], *, may_be_column: bool = True, as_text: bool = False) -> Value | None:
        """Return what `node` is worth; None if that is not known, or not yet.

        Args:
            may_be_column: `current_date` without brackets could be a column here.
            as_text: Only a text is of interest.
        """
        if id(node) in self._known:
            return self._known[id(node)]
        if as_text and (text := self._plain_text(node)) is not None:
            return Value("VARCHAR", text, text)
        if len(self._asked) < _MOST and _is_constant(node, may_be_column=may_be_column):
            self._asked[id(node)] = node
        return None

    def _plain_text(self, node: dict[str, Any]) -> str | None:
        """Return a text that stands there, or is a parameter: there may be thousands."""
        literal, found = node.get("literal") or {}, None
        if node.get("type") == "VALUE_CONSTANT" and literal.get("kind") == "STRING":
            found = literal.get("text")
        elif node.get("type") == "VALUE_PARAMETER":
            found = self._parameters.get(folded(str(node.get("identifier"))))
        return found if isinstance(found, str) and _is_unicode(found) else None

    def evaluate(self) -> None:
        """Let DuckDB evaluate all that were asked for. One that fails stays unknown."""
        nodes = list(self._asked.items())
        if not nodes:
            return
        found = self._evaluated([node for _, node in nodes])
        if found is None:
            each = [self._evaluated([node]) for _, node in nodes]
            found = [None if one is None else one[0] for one in each]
        self._known |= {key: value for (key, _), value in zip(nodes, found, strict=True) if value is not None}

    def _evaluated(self, nodes: list[dict[str, Any]]) -> list[Value | None] | None:
        """Return what each is worth; None if one of them cannot be evaluated."""
        depends = [_mentions_present(node) for node in nodes]
        shown = [_with_present_as_parameter(node) | {"alias": f"c{n}"} for n, node in enumerate(nodes)]
        now = clock.from_us(clock.now_us())
        rows = []
        for shift in _NOWS if any(depends) else _NOWS[:1]:
            values = self._values(shown, now + shift)
            row = None if values is None else self._parser.evaluate(shown, values)
            if row is None:
                return None
            rows.append(row)
        return [_value(rows[0][n], rows[-1][n], depends[n]) for n in range(len(nodes))]

    def _values(self, shown: list[dict[str, Any]], now: datetime) -> dict[str, Any] | None:
        present = {
            "present_instant": now,
            "present_day": now.date(),
            "present_local": now.replace(tzinfo=None),
        }
        values: dict[str, Any] = {}
        for node in shown:
            for one in _within(node):
                if one.get("type") != "VALUE_PARAMETER":
                    continue
                name = str(one["identifier"])
                if one.get("is_present"):
                    values[name] = present[name]
                elif name in present or folded(name) not in self._parameters:
                    return None
                else:
                    values[name] = self._parameters[folded(name)]
        return values


def _value(low: tuple[Any, ...], high: tuple[Any, ...], depends: bool) -> Value | None:
    kind = str(low[0])
    texts = (low[1], high[1])
    instants = (low[2], high[2]) if kind in _OF_TIME else (None, None)
    if not depends:
        return Value(kind, *texts, *instants)
    if None in texts or (kind == "VARCHAR" and any(len(text) != 10 for text in texts)):
        return None  # texts of other lengths than a day's are not in the order of time
    first, last = (None, None) if None in instants else (min(instants), max(instants))
    return Value(kind, min(texts), max(texts), first, last)


def _is_constant(node: dict[str, Any], *, may_be_column: bool) -> bool:
    """Say whether this is made of what is known here, and nothing that could do anything."""
    try:
        moments = [_checked(one, may_be_column=may_be_column) for one in _within(node)]
    except ValueError:
        return False
    return not any(moments) or (sum(moments) == 1 and _is_monotone(node))


def _checked(node: dict[str, Any], *, may_be_column: bool) -> bool:
    """Return whether this node is the present moment.

    Raises:
        ValueError: It is not known what it is.
    """
    kind = str(node.get("type"))
    if kind == "FUNCTION":
        name = folded(str(node.get("function_name")))
        orders = (node.get("order_bys") or {}).get("orders")
        if node.get("schema") or node.get("catalog") or node.get("filter") or node.get("distinct") or orders:
            raise ValueError
        if name in _PRESENT and not node.get("arguments"):
            return True
        if name not in _FUNCTIONS or any(one.get("name") for one in node.get("arguments") or ()):
            raise ValueError
    elif kind == "COLUMN_REF":
        if may_be_column or not _is_present_word(node):
            raise ValueError
        return True
    elif kind == "OPERATOR_CAST":
        if _type_of(node) not in _TYPES:
            raise ValueError
    elif _parts(node) is None:
        raise ValueError
    return False


def _parts(node: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the expressions that this one is made of; None if it is of no kind that is known here."""
    kind = str(node.get("type"))
    if kind == "FUNCTION":
        return [one["expression"] for one in node.get("arguments") or ()]
    if kind in _OPERATORS:
        return list(node["children"])
    members = _MEMBERS.get(kind)
    return None if members is None else [node[member] for member in members]


def _within(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pending = [node]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(_parts(one) or ())


def _type_of(cast: dict[str, Any]) -> str:
    told = cast.get("type_expr") or {}
    bare = not told.get("children") and not told.get("schema") and not told.get("catalog")
    return folded(str(told.get("type_name"))) if bare else ""


def _is_present_word(node: dict[str, Any]) -> bool:
    names = [folded(str(one)) for one in node.get("column_names") or ()]
    return len(names) == 1 and names[0] in _PRESENT and names[0] not in ("now", "today")


def _is_present(node: dict[str, Any]) -> bool:
    if node.get("type") == "COLUMN_REF":
        return True
    return node.get("type") == "FUNCTION" and folded(str(node.get("function_name"))) in _PRESENT


def _mentions_present(node: dict[str, Any]) -> bool:
    return any(_is_present(one) for one in _within(node))


def _is_monotone(node: dict[str, Any]) -> bool:
    """Say whether the value only grows, or only falls, with the one present moment in it."""
    while not _is_present(node):
        kind, parts = node.get("type"), _parts(node) or []
        if kind == "OPERATOR_CAST":
            if _type_of(node) not in _MONOTONE_TYPES:
                return False
        elif kind != "FUNCTION" or not _grows_along(node, parts):
            return False
        node = next(one for one in parts if _mentions_present(one))
    return True


def _grows_along(function: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    name = folded(str(function.get("function_name")))
    if name == "strftime":
        return len(parts) == 2 and (parts[1].get("literal") or {}).get("text") == _DAY_FORMAT
    return name in _MONOTONE


def _with_present_as_parameter(node: dict[str, Any]) -> dict[str, Any]:
    """Return the expression with a parameter in place of the present moment."""
    if not _mentions_present(node):
        return node
    copy: dict[str, Any] = json.loads(json.dumps(node))
    for one in list(_within(copy)):
        if _is_present(one):
            word = one.get("function_name") or one["column_names"][0]
            alias = one.get("alias", "")
            one.clear()
            one |= {"class": "PARAMETER", "type": "VALUE_PARAMETER", "alias": alias, "is_present": True}
            one["identifier"] = _PRESENT[folded(str(word))]
    return copy


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
