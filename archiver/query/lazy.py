"""Events as a polars lazy frame that reads no more than what it comes to need.

Parquet files in a local folder, of which no event is supplemented, polars scans itself, by
the exact list that the ledger gives. Everything else (a bucket, JSON lines, supplements)
comes through a session: the columns that are wanted, the conditions that SQL can say just
as well, and how many rows are enough become part of the statement. polars applies all
conditions to what comes, so that one which SQL was not told is not lost.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl
import pyarrow as pa

from archiver import clock, columns
from archiver.query.narrowing import Narrow
from archiver.query.session import Answer, Session
from archiver.query.views import PARTITION
from archiver.store.base import Store

EVENT_COLUMNS: Final[tuple[str, ...]] = (*columns.SCHEMAS["events"].names, *PARTITION)

_COMPARED: Final = {"Eq": "=", "NotEq": "<>", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_FLIPPED: Final = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BETWEEN: Final = {"Both": (">=", "<="), "Left": (">=", "<"), "Right": (">", "<="), "None": (">", "<")}
_INTEGERS: Final = ("Int", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events, and what of them.

    Attributes:
        narrow: Of which workspace (one, or any) and times; exactly, not only whole files.
        columns: In this order.
        in_order: Whether by time, and at equal times by id.
    """

    narrow: Narrow
    columns: tuple[str, ...] = EVENT_COLUMNS
    in_order: bool = False

    def asked(self, session: Session) -> Answer:
        """Ask for all of it."""
        conditions, values = self._conditions()
        order = " ORDER BY event_time, id" if self.in_order else ""
        return session.sql(_select(self.columns, conditions) + order, values)

    def frame(self, session: Session, store: Store) -> pl.LazyFrame:
        """Return it as a lazy frame; nothing is read yet."""
        paths = _native_paths(session, store, self.narrow)
        frame = self._through(session) if paths is None else self._scanned(paths)
        if self.in_order:
            frame = frame.sort("event_time", "id")
        return frame.select(self.columns)

    def _scanned(self, paths: Sequence[str]) -> pl.LazyFrame:
        if not paths:
            return pl.LazyFrame(schema=_schema())
        frame = pl.scan_parquet(list(paths), glob=False, hive_partitioning=False)
        narrow = self.narrow
        if narrow.workspaces is not None:
            frame = frame.filter(pl.col("workspace_id") == next(iter(narrow.workspaces)))
        if narrow.since_us is not None:
            frame = frame.filter(pl.col("event_time") >= clock.from_us(narrow.since_us))
        if narrow.until_us is not None:
            frame = frame.filter(pl.col("event_time") < clock.from_us(narrow.until_us))
        return frame.with_columns(
            workspace=pl.col("workspace_id"), dt=pl.col("event_time").dt.strftime("%Y-%m-%d")
        )

    def _through(self, session: Session) -> pl.LazyFrame:
        from polars.io.plugins import register_io_source  # noqa: PLC0415

        def read(
            wanted: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
        ) -> Iterator[pl.DataFrame]:
            return self._read(session, wanted, predicate, rows)

        return register_io_source(read, schema=_schema(), is_pure=True)

    def _read(
        self, session: Session, wanted: list[str] | None, predicate: pl.Expr | None, rows: int | None
    ) -> Iterator[pl.DataFrame]:
        shown = list(EVENT_COLUMNS) if wanted is None else wanted
        needed = set(shown) | (set() if predicate is None else set(predicate.meta.root_names()))
        conditions, values = self._conditions()
        if predicate is not None and (told := condition_of(predicate, values)):
            conditions.append(told)
        names = [name for name in EVENT_COLUMNS if name in needed] or ["event_time"]
        statement = _select(names, conditions)
        if rows is not None and predicate is None:
            statement += f" LIMIT {rows:d}"
        with session.sql(statement, values, watch=_interruptible) as answer:
            for batch in answer.batches():
                frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
                if predicate is not None:
                    frame = frame.filter(predicate)
                if rows is not None:
                    frame, rows = frame.head(rows), rows - min(rows, frame.height)
                yield frame.select(shown)
                if rows == 0:
                    return

    def _conditions(self) -> tuple[list[str], dict[str, Any]]:
        conditions: list[str] = []
        values: dict[str, Any] = {}
        narrow = self.narrow
        if narrow.workspaces is not None:
            values["workspace"] = next(iter(narrow.workspaces))
            conditions.append("workspace_id = $workspace")
        if narrow.since_us is not None:
            values["since"] = clock.from_us(narrow.since_us)
            conditions.append("event_time >= $since")
        if narrow.until_us is not None:
            values["until"] = clock.from_us(narrow.until_us)
            conditions.append("event_time < $until")
        return conditions, values


def condition_of(predicate: pl.Expr, values: dict[str, Any]) -> str | None:
    """Return SQL that holds wherever `predicate` does; None where there is none to be had.

    What polars writes of its expressions is not promised to stay: a form that is not known
    is left out, and costs time, not rows.

    Args:
        values: Takes the constants; the SQL names them as `$p0`, `$p1` ….
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = json.loads(predicate.meta.serialize(format="json"))
        own: dict[str, Any] = {}
        told = _condition(tree, own)
    except (pl.exceptions.PolarsError, ValueError, TypeError, RecursionError):
        return None
    used = re.findall(r"\$(p[0-9]+)", told or "")  # what stands in a half that was left out is not
    values.update((name, own[name]) for name in used)
    return told


def _condition(node: Mapping[str, Any], values: dict[str, Any]) -> str | None:
    both = node.get("BinaryExpr", {})
    sign = both.get("op")
    if sign not in ("And", "Or"):
        try:
            return _comparison(node, values)
        except (LookupError, ValueError, TypeError, AttributeError):
            return None
    sides = [_condition(both[side], values) for side in ("left", "right")]
    told = [side for side in sides if side is not None]
    # Of AND, one side holds as well wherever both do; of OR, it does not.
    return f"({f' {sign.upper()} '.join(told)})" if len(told) == 2 or (told and sign == "And") else None


def _comparison(node: Mapping[str, Any], values: dict[str, Any]) -> str:
    if "BinaryExpr" in node:
        both = node["BinaryExpr"]
        left, right, sign = both["left"], both["right"], _COMPARED[both["op"]]
        if "Column" in left:
            return _compared(left, sign, right, values)
        return _compared(right, _FLIPPED[sign], left, values)
    asked, (column, *given) = node["Function"]["function"], node["Function"]["input"]
    match asked:
        case {"Boolean": "IsNull" | "IsNotNull"}:
            return (
                f"{_quoted(column['Column'])} {'IS NULL' if asked['Boolean'] == 'IsNull' else 'IS NOT NULL'}"
            )
        case {"StringExpr": "StartsWith"}:
            start = _bound(_constant(given[0], _KINDS[column["Column"]]), values)
            return f"starts_with({_quoted(column['Column'])}, {start})"
    lower, upper = _BETWEEN[asked["Boolean"]["IsBetween"]["closed"]]
    first = _compared(column, lower, given[0], values)
    return f"({first} AND {_compared(column, upper, given[1], values)})"


def _compared(
    column: Mapping[str, Any], sign: str, constant: Mapping[str, Any], values: dict[str, Any]
) -> str:
    name = column["Column"]
    return f"{_quoted(name)} {sign} {_bound(_constant(constant, _KINDS[name]), values)}"


def _constant(node: Mapping[str, Any], wanted: str) -> str | int | datetime:
    """Return a constant that is of the kind `wanted`.

    Raises:
        ValueError: It is not. (Or another of those that `_condition` expects.)
    """
    literal = node["Literal"]
    ((kind, value),) = (literal.get("Scalar") or literal["Dyn"]).items()
    if wanted == "text" and kind == "String":
        return str(value)
    if wanted == "integer" and kind in _INTEGERS and -(2**63) <= value < 2**63:
        return int(value)
    if wanted == "instant" and kind == "Datetime" and value[1:] == ["Microseconds", {"inner": "UTC"}]:
        return clock.from_us(value[0])
    raise ValueError


def _interruptible() -> None:
    """Raise KeyboardInterrupt if Ctrl-C came: polars keeps it to itself, but for those who do something."""
    pl.select(pl.lit(0))


def _bound(value: Any, values: dict[str, Any]) -> str:
    name = f"p{len(values)}"
    values[name] = value
    return f"${name}"


def _kind(name: str) -> str:
    kind = columns.SCHEMAS["events"].field(name).type if name not in PARTITION else pa.string()
    return "text" if kind == pa.string() else "integer" if kind == pa.int64() else "instant"


_KINDS: Final = {name: _kind(name) for name in EVENT_COLUMNS}


def _quoted(name: str) -> str:
    if name not in _KINDS:
        raise KeyError(name)
    return f'"{name}"'


def _select(names: Sequence[str], conditions: Sequence[str]) -> str:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {', '.join(map(_quoted, names))} FROM events{where}"  # noqa: S608 - names of ours


def _schema() -> pl.Schema:
    kinds = {"text": pl.String(), "integer": pl.Int64(), "instant": pl.Datetime("us", "UTC")}
    return pl.Schema({name: kinds[_KINDS[name]] for name in EVENT_COLUMNS})


def _native_paths(session: Session, store: Store, narrow: Narrow) -> list[str] | None:
    """Return the files that polars may scan itself; None if it has to ask the session."""
    if session.files("supplements", narrow):
        return None
    paths = []
    for file in session.files("events", narrow):
        path = store.local_path(file.key)
        if path is None or not file.key.endswith(".parquet"):
            return None
        paths.append(path)
    return paths
