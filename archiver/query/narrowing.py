"""Which files can a statement want? Told by what stands in its WHERE, before a file is looked at.

A view of a million files is not made: the checkpoint's columns are pruned first. Only what
surely holds of every row that the statement can use is taken: comparisons with constants,
joined by AND, in the WHERE of the one SELECT that reads the view. When in doubt, nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import duckdb

from archiver.query.statement import tree_of

VIEWS: Final = ("events", "alerts", "supplements")
_ANSWERS_FIRST: Final = {
    "INNER": ("left", "right"),
    "LEFT": ("left",),
    "RIGHT": ("right",),
    "SEMI": ("left",),
}
_INSTANTS: Final = frozenset({"timestamptz", "timestamp", "timestamp with time zone", "date", "datetime"})
_FLIPPED: Final = {
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_EQUAL": "COMPARE_EQUAL",
}


@dataclass(frozen=True, slots=True)
class Narrow:
    """What rows can be asked for: workspaces, and times in microseconds since 1970; None is any."""

    workspaces: frozenset[str] | None = None
    since_us: int | None = None
    until_us: int | None = None

    def both(self, other: Narrow) -> Narrow:
        """Return what is in this and in the other."""
        workspaces = self.workspaces
        if other.workspaces is not None:
            workspaces = other.workspaces if workspaces is None else workspaces & other.workspaces
        since = [one for one in (self.since_us, other.since_us) if one is not None]
        until = [one for one in (self.until_us, other.until_us) if one is not None]
        return Narrow(workspaces, max(since, default=None), min(until, default=None))

    def widened(self, us: int) -> Narrow:
        """Return the same with times that reach `us` further on both sides."""
        return Narrow(
            self.workspaces,
            None if self.since_us is None else self.since_us - us,
            None if self.until_us is None else self.until_us + us,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a statement reads.

    Attributes:
        views: Those of the data files that it names; None is not known: any.
        narrow: Of a view, what surely holds of all rows that it can use.
    """

    views: frozenset[str] | None = None
    narrow: Mapping[str, Narrow] = field(default_factory=dict)


def wanted_by(statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> Wanted:
    """Return what `statement`, which was checked, can want."""
    tree = tree_of(statement)
    if tree is None:
        return Wanted()
    names = [str(node["table_name"]).casefold() for node in _nodes(tree) if node.get("type") == "BASE_TABLE"]
    known = _Constants(parameters)
    narrow = {}
    for select in _nodes(tree):
        if select.get("type") != "SELECT_NODE" or select.get("sample"):
            continue
        for table in _read_first(select.get("from_table") or {}):
            view = str(table.get("table_name")).casefold()
            if view in VIEWS and names.count(view) == 1 and _is_plain(table, select):
                narrow[view] = _narrow(select.get("where_clause") or {}, _names_of(table), known)
    return Wanted(frozenset(names), narrow)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield one
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)


def _read_first(source: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tables of a FROM whose rows are in its result only as themselves, never as nulls."""
    pending = [source]
    while pending:
        one = pending.pop()
        if one.get("sample"):
            continue
        if one.get("type") == "BASE_TABLE":
            yield one
        elif one.get("type") == "JOIN" and one.get("ref_type") in ("REGULAR", "CROSS", "NATURAL"):
            pending.extend(one[side] for side in _ANSWERS_FIRST.get(str(one.get("join_type")), ()))


def _is_plain(table: dict[str, Any], select: dict[str, Any]) -> bool:
    """Say whether the two columns mean in the WHERE what they are in the view."""
    given = {str(one.get("alias", "")).casefold() for one in select.get("select_list", ())}
    return not table.get("column_name_alias") and given.isdisjoint(("workspace_id", "event_time"))


def _names_of(table: dict[str, Any]) -> frozenset[str]:
    return frozenset({str(table.get("alias") or table["table_name"]).casefold()})


def _narrow(where: dict[str, Any], names: frozenset[str], known: _Constants) -> Narrow:
    found = Narrow()
    pending = [where]
    while pending:
        one = pending.pop()
        kind = one.get("type")
        if kind == "CONJUNCTION_AND":
            pending.extend(one["children"])
        elif kind in _FLIPPED:
            column = _column(one["left"], names)
            if column is not None:
                found = found.both(_compared(column, str(kind), one["right"], known))
            elif (column := _column(one["right"], names)) is not None:
                found = found.both(_compared(column, _FLIPPED[str(kind)], one["left"], known))
        elif kind == "COMPARE_BETWEEN" and (column := _column(one["input"], names)) is not None:
            found = found.both(_compared(column, "COMPARE_GREATERTHANOREQUALTO", one["lower"], known))
            found = found.both(_compared(column, "COMPARE_LESSTHANOREQUALTO", one["upper"], known))
        elif kind == "COMPARE_IN" and _column(one["children"][0], names) == "workspace_id":
            texts = [known.text(child) for child in one["children"][1:]]
            if None not in texts:
                found = found.both(Narrow(frozenset(text for text in texts if text is not None)))
    return found


def _column(node: dict[str, Any], names: frozenset[str]) -> str | None:
    """Return which of the two columns this is, in small letters; None for anything else."""
    if node.get("type") != "COLUMN_REF":
        return None
    *table, column = (str(part).casefold() for part in node["column_names"])
    if column in ("workspace_id", "event_time") and (not table or (len(table) == 1 and table[0] in names)):
        return column
    return None


def _compared(column: str, kind: str, value: dict[str, Any], known: _Constants) -> Narrow:
    if column == "workspace_id":
        text = known.text(value) if kind == "COMPARE_EQUAL" else None
        return Narrow() if text is None else Narrow(frozenset((text,)))
    instant = known.instant(value)
    if instant is None:
        return Narrow()
    # One microsecond more than is asked for does no harm.
    since = (
        instant if kind in ("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_EQUAL") else None
    )
    until = (
        instant + 1 if kind in ("COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO", "COMPARE_EQUAL") else None
    )
    return Narrow(None, since, until)


class _Constants:
    """What a constant or a parameter in a statement is."""

    def __init__(self, parameters: Sequence[Any] | Mapping[str, Any] | None) -> None:
        given = parameters if parameters is not None else ()
        if not isinstance(given, Mapping):
            given = {str(number): value for number, value in enumerate(given, start=1)}
        self._parameters = {str(name).casefold(): value for name, value in given.items()}

    def _value(self, node: dict[str, Any]) -> Any:
        if node.get("type") == "VALUE_CONSTANT":
            literal = node.get("literal") or {}
            return literal.get("text") if literal.get("kind") == "STRING" else None
        if node.get("type") == "VALUE_PARAMETER":
            return self._parameters.get(str(node.get("identifier")).casefold())
        return None

    def text(self, node: dict[str, Any]) -> str | None:
        """Return a text; None if it is none. A number would be compared as a number."""
        found = self._value(node)
        return found if isinstance(found, str) else None

    def instant(self, node: dict[str, Any]) -> int | None:
        """Return an instant in microseconds since 1970, as DuckDB reads it; None if it is none."""
        casts: list[str] = []
        while node.get("type") == "OPERATOR_CAST" and len(casts) < 4:
            kind = str((node.get("type_expr") or {}).get("type_name")).casefold()
            if kind not in _INSTANTS:
                return None
            casts.append(kind)
            node = node["child"]
        found = self._value(node)
        if not isinstance(found, str | datetime | date):
            return None
        shown = "$1"
        for kind in reversed(casts):
            shown = f"CAST({shown} AS {kind})"
        try:
            with duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False}) as own:
                own.execute("SET TimeZone='UTC'")
                own.execute("SET Calendar='gregorian'")
                asked = f"SELECT epoch_us(CAST({shown} AS TIMESTAMPTZ))"
                row = own.execute(asked, [found]).fetchone()
        except (duckdb.Error, ValueError, OverflowError):
            return None
        return None if row is None or row[0] is None else int(row[0])
