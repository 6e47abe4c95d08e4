"""Which files can a statement want? Told by what stands in it, before a file is looked at.

Only what surely holds of every row that the statement can use is taken: comparisons of
workspace, time, day and id with constants, joined by AND and OR, in the WHERE of the SELECT
that reads a view or in the ON of its join. What reads a view twice wants what either reading
wants. When in doubt, everything is wanted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import reduce
from typing import Any, Final

from archiver.query.constants import Constants, Value
from archiver.query.statement import PARSER, Parser, folded

VIEWS: Final = ("events", "alerts", "supplements")
_PLACE: Final = {"workspace_id": "workspace", "workspace": "workspace", "event_time": "time", "dt": "day"}
_COLUMNS: Final = {
    "events": {**_PLACE, "id": "id"},
    "alerts": {**_PLACE, "alert_id": "id"},
    "supplements": {**_PLACE, "id": "id"},
}
# Table functions that read what they are given, and no view by its name.
_READING_NO_VIEW: Final = frozenset(
    {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"}
)
_DAY_US: Final = 86_400_000_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAYS: Final = range(date.min.toordinal(), date.max.toordinal() + 1)
_FLIPPED: Final = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "=": "="}
_SIGNS: Final = {
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_EQUAL": "=",
}
# Which sides of a join the WHERE holds for, and which its ON.
_WHERE_HOLDS: Final = {
    "INNER": "left right",
    "LEFT": "left",
    "RIGHT": "right",
    "SEMI": "left",
    "ANTI": "left",
}
_ON_HOLDS: Final = {
    "INNER": "left right",
    "LEFT": "right",
    "RIGHT": "left",
    "SEMI": "left right",
    "ANTI": "right",
}


@dataclass(frozen=True, slots=True)
class Narrow:
    """What rows can be asked for; None is any.

    Attributes:
        workspaces: Of these.
        since_us, until_us: At or after, and before; in microseconds since 1970.
        ids: With one of these ids.
    """

    workspaces: frozenset[str] | None = None
    since_us: int | None = None
    until_us: int | None = None
    ids: frozenset[str] | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether no row can be asked for."""
        return self.workspaces == frozenset() or self.ids == frozenset()

    def both(self, other: Narrow) -> Narrow:
        """Return what is in this and in the other."""
        since = [one for one in (self.since_us, other.since_us) if one is not None]
        until = [one for one in (self.until_us, other.until_us) if one is not None]
        return Narrow(
            _common(self.workspaces, other.workspaces),
            max(since, default=None),
            min(until, default=None),
            _common(self.ids, other.ids),
        )

    def either(self, other: Narrow) -> Narrow:
        """Return the least that holds what is in this or in the other."""
        return hull((self, other))

    def widened(self, us: int) -> Narrow:
        """Return the same with times that reach `us` further on both sides."""
        return replace(
            self,
            since_us=None if self.since_us is None else self.since_us - us,
            until_us=None if self.until_us is None else self.until_us + us,
        )


ANYTHING: Final = Narrow()
NOTHING: Final = Narrow(frozenset())


def hull(each: Iterable[Narrow]) -> Narrow:
    """Return the least that holds what is in any of `each`."""
    some = [one for one in each if not one.is_nothing]
    if not some:
        return NOTHING
    workspaces = [one.workspaces for one in some if one.workspaces is not None]
    since = [one.since_us for one in some if one.since_us is not None]
    until = [one.until_us for one in some if one.until_us is not None]
    ids = [one.ids for one in some if one.ids is not None]
    return Narrow(
        frozenset().union(*workspaces) if len(workspaces) == len(some) else None,
        min(since) if len(since) == len(some) else None,
        max(until) if len(until) == len(some) else None,
        frozenset().union(*ids) if len(ids) == len(some) else None,
    )


def _common(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a statement reads.

    Attributes:
        views: Those of the data files that it names; None is not known: any.
        narrow: Of a view, what surely holds of all rows that it can use.
        columns: Names among which are those of all columns that it uses; None is not known: any.
    """

    views: frozenset[str] | None = None
    narrow: Mapping[str, Narrow] = field(default_factory=dict)
    columns: frozenset[str] | None = None


def wanted_by(
    statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None, parser: Parser = PARSER
) -> Wanted:
    """Return what `statement`, which was checked, can want."""
    tree = parser.tree(statement)
    if tree is None:
        return Wanted()
    tables = list(_tables(tree, "BASE_TABLE", "SHOW_REF"))
    names = frozenset(_name(node) for node in tables)
    functions = {folded(str(one["function"].get("function_name"))) for one in _tables(tree, "TABLE_FUNCTION")}
    if "_events" in names or not functions <= _READING_NO_VIEW:
        return Wanted()
    known = Constants(parser, parameters)
    try:
        readings = list(_readings(tree))
        for reading in readings:
            reading.narrow(known)  # which only tells what is to be evaluated
        known.evaluate()
        narrow = {id(one.table): one.narrow(known) for one in readings}
    except RecursionError:
        return Wanted(names)
    found: dict[str, Narrow] = {}
    for node in tables:
        wants = narrow.get(id(node), ANYTHING)
        before = found.get(_name(node))
        found[_name(node)] = wants if before is None else before.either(wants)
    return Wanted(names, {view: found[view] for view in VIEWS if view in found}, _used_columns(tree, tables))


def _tables(tree: dict[str, Any], *kinds: str) -> Iterator[dict[str, Any]]:
    return (node for node in _nodes(tree) if node.get("type") in kinds)


def _used_columns(tree: dict[str, Any], tables: list[dict[str, Any]]) -> frozenset[str] | None:
    """Return the names of all columns that are told, and more; None where some may be meant untold."""
    whole = {folded(str(name)) for one in tables for name in (one.get("alias"), one["table_name"])}
    used: set[str] = set()
    for node in _nodes(tree):
        kind = str(node.get("type"))
        if kind in ("STAR", "PIVOT", "SHOW_REF") or kind.startswith("POSITIONAL"):
            return None
        if node.get("ref_type") in ("NATURAL", "POSITIONAL") or node.get("column_name_alias"):
            return None
        used |= {folded(str(name)) for name in node.get("using_columns") or ()}
        if kind == "COLUMN_REF":
            parts = [folded(str(part)) for part in node["column_names"]]
            if len(parts) == 1 and parts[0] in whole:
                return None  # a whole row
            used.update(parts)
    return frozenset(used)


def _name(table: dict[str, Any]) -> str:
    return folded(str(table.get("table_name")))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield one
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One place in which a statement reads a view.

    Attributes:
        table: The node that names the view.
        conditions: What holds of its rows, or they are of no use.
        bare: Columns that mean the view's without a table's name before them.
        is_alone: Nothing else stands in the FROM.
    """

    table: dict[str, Any]
    conditions: tuple[dict[str, Any], ...]
    bare: frozenset[str]
    is_alone: bool

    def narrow(self, known: Constants) -> Narrow:
        return reduce(Narrow.both, (_judged(one, self, known) for one in self.conditions), ANYTHING)

    def column(self, node: dict[str, Any]) -> str | None:
        """Return what column of the view this is, as `_COLUMNS` calls it; None for anything else."""
        if node.get("type") != "COLUMN_REF":
            return None
        *before, name = (folded(str(part)) for part in node["column_names"])
        named = folded(str(self.table.get("alias") or self.table["table_name"]))
        if before == [named] or (not before and name in self.bare):
            return _COLUMNS[_name(self.table)].get(name)
        return None


def _readings(tree: dict[str, Any]) -> Iterator[_Reading]:
    """Yield the readings of which something can be said."""
    for select in _nodes(tree):
        if select.get("type") != "SELECT_NODE" or select.get("sample"):
            continue
        source = select.get("from_table") or {}
        where = select.get("where_clause")
        joins = [one for one in _joined(source) if one.get("type") == "JOIN"]
        bare = frozenset(_PLACE) | {"id", "alert_id"}
        bare -= {folded(str(one.get("alias", ""))) for one in select.get("select_list", ())}
        bare -= {folded(str(name)) for join in joins for name in join.get("using_columns") or ()}
        if any(join.get("ref_type") == "NATURAL" for join in joins):
            bare = frozenset()
        for table, conditions in _held(source, () if not where else (where,)):
            if _name(table) in VIEWS and not table.get("column_name_alias"):
                yield _Reading(table, conditions, bare, not joins)


def _joined(source: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pending = [source]
    while pending:
        one = pending.pop()
        yield one
        if one.get("type") == "JOIN":
            pending += [one["left"], one["right"]]


def _held(
    source: dict[str, Any], conditions: tuple[dict[str, Any], ...]
) -> Iterator[tuple[dict[str, Any], tuple[dict[str, Any], ...]]]:
    """Yield the tables of a FROM with what holds of each one's rows wherever they matter."""
    pending = [(source, conditions)]
    while pending:
        one, held = pending.pop()
        if one.get("sample"):
            continue
        if one.get("type") == "BASE_TABLE":
            yield one, held
        elif one.get("type") == "JOIN" and one.get("ref_type") in ("REGULAR", "CROSS", "NATURAL"):
            kind, on = str(one.get("join_type")), one.get("condition")
            for side in ("left", "right"):
                where = held if side in _WHERE_HOLDS.get(kind, "") else ()
                pending.append((one[side], (*where, on) if on and side in _ON_HOLDS.get(kind, "") else where))


def _judged(node: dict[str, Any], reading: _Reading, known: Constants) -> Narrow:
    """Return what rows of the view can fulfil a condition."""
    kind = str(node.get("type"))
    if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
        each = [_judged(one, reading, known) for one in node["children"]]
        return reduce(Narrow.both, each) if kind == "CONJUNCTION_AND" else hull(each)
    if kind in _SIGNS:
        for one, sign, other in (
            (node["left"], _SIGNS[kind], node["right"]),
            (node["right"], _FLIPPED[_SIGNS[kind]], node["left"]),
        ):
            if (column := _compared_column(one, reading)) is not None:
                return _compared(column, sign, other, reading, known)
    elif kind == "COMPARE_BETWEEN" and (column := _compared_column(node["input"], reading)) is not None:
        lower = _compared(column, ">=", node["lower"], reading, known)
        return lower.both(_compared(column, "<=", node["upper"], reading, known))
    elif kind == "COMPARE_IN" and (column := _compared_column(node["children"][0], reading)) is not None:
        each = [_compared(column, "=", one, reading, known) for one in node["children"][1:]]
        return hull(each)
    value = known.of(node, may_be_column=not reading.is_alone)
    return NOTHING if value is not None and value.truth is False else ANYTHING


def _compared_column(node: dict[str, Any], reading: _Reading) -> str | None:
    """Return what column is compared; `date` is the day of the time."""
    column = reading.column(node)
    if column is None and node.get("type") == "OPERATOR_CAST" and not node.get("try_cast"):
        to = folded(str((node.get("type_expr") or {}).get("type_name")))
        return "date" if to == "date" and reading.column(node["child"]) == "time" else None
    return column


def _compared(column: str, sign: str, node: dict[str, Any], reading: _Reading, known: Constants) -> Narrow:
    is_text = column in ("workspace", "id", "day")
    value = known.of(node, may_be_column=not reading.is_alone, as_text=is_text)
    if value is None or (is_text and value.kind not in ("VARCHAR", '"NULL"')):
        return ANYTHING  # a number is compared as a number, and so is all that stands in its list
    if value.is_null:
        return NOTHING  # a comparison with NULL is never true
    if column == "day":
        return _of_days(sign, value)
    if not is_text:
        return _of_instants(sign, value, in_days=column == "date")
    if sign != "=" or value.text is None:
        return ANYTHING
    return Narrow(frozenset((value.text,))) if column == "workspace" else Narrow(ids=frozenset((value.text,)))


def _of_instants(sign: str, value: Value, *, in_days: bool) -> Narrow:
    since, until = value.low_us, value.high_us
    if since is None or until is None:
        return ANYTHING
    if in_days:  # the whole days: of an instant within one, the day's beginning is compared
        since, until = since - since % _DAY_US, until - until % _DAY_US + _DAY_US
    else:
        until += 1  # one microsecond more than is asked for does no harm
    return Narrow(
        None, since if sign in (">", ">=", "=") else None, until if sign in ("<", "<=", "=") else None
    )


def _of_days(sign: str, value: Value) -> Narrow:
    """Return the days whose texts, `YYYY-MM-DD`, compare so with a text, whatever it is."""
    if value.kind != "VARCHAR" or value.low is None or value.high is None:
        return ANYTHING
    first, behind = 0, len(_DAYS)
    if sign in (">", ">=", "="):
        first = (bisect_right if sign == ">" else bisect_left)(_DAYS, value.low, key=_day_text)
    if sign in ("<", "<=", "="):
        behind = (bisect_left if sign == "<" else bisect_right)(_DAYS, value.high, key=_day_text)
    if first >= behind:
        return NOTHING
    return Narrow(
        None,
        _start_us(first) if sign in (">", ">=", "=") else None,
        _start_us(behind) if sign in ("<", "<=", "=") else None,
    )


def _day_text(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def _start_us(place: int) -> int:
    return (_DAYS[0] + place - _EPOCH_DAY) * _DAY_US
