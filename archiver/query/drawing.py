"""Answers drawn for a terminal: a bar for each row, or a line of marks for each of a few things.

What is drawn are the first rows, as they come by on their way to the table; a drawing says so
where there were more. Blocks where the terminal has them, ASCII elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
from rich.cells import cell_len, set_cell_size

from archiver.query.escaping import shown
from archiver.query.header import Drawing
from archiver.query.session import Answer
from archiver.query.values import text_of, values_of

MOST_BARS: Final = 40
MOST_LINES: Final = 40
MOST_POINTS: Final = 100_000
_LONGEST_LABEL: Final = 200
_NARROWEST: Final = 20
_GAP: Final = "  "
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+Z?)?", re.ASCII)
_NUMBERS: Final = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_TIMES: Final = (pa.types.is_timestamp, pa.types.is_date)


@dataclass(frozen=True, slots=True)
class Style:
    """What a terminal can show.

    Attributes:
        blocks: Block characters; else ASCII.
        encoding: Of its text; what it has not is escaped.
    """

    blocks: bool = True
    encoding: str = "utf-8"

    @staticmethod
    def of(encoding: str | None, environment: Mapping[str, str]) -> Style:
        """Return what fits a terminal of this encoding, with `NO_COLOR` and `TERM` heeded."""
        name = encoding or "ascii"
        try:
            "█▁│·…".encode(name)
        except (UnicodeEncodeError, LookupError):
            return Style(False, "ascii")
        return Style("NO_COLOR" not in environment and environment.get("TERM") != "dumb", name)

    def label(self, text: str, size: int) -> str:
        """Return other people's text as a terminal may have it, in exactly `size` cells."""
        safe = shown(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
        if cell_len(safe) > size:
            safe = set_cell_size(safe, size - 1) + ("…" if self.blocks else "~")
        return set_cell_size(safe, size)


@dataclass(slots=True)
class _Line:
    points: list[tuple[str, float | None]] = field(default_factory=list)


class Sketch:
    """Takes an answer's rows as they pass, and keeps as many as can be drawn."""

    def __init__(self, drawing: Drawing, schema: pa.Schema) -> None:
        self._drawing = drawing
        self._rows = 0
        self._labels: list[list[str]] = []
        self._values: list[Any] = []
        self._lines: dict[str, _Line] = {}
        self._kept = 0
        self._is_cut = False
        self._problem = _problem(drawing, schema)
        others = [part for part in schema if part.name not in (drawing.column, drawing.by)]
        times = [part.name for part in others if _is(part.type, _TIMES)]
        self._time = times[0] if times else None
        before = others[: 0 if self._problem else schema.names.index(drawing.column)]
        texts = [part.name for part in before if not _is(part.type, (*_TIMES, *_NUMBERS))]
        self._named_by = [drawing.by] if drawing.by else texts

    def add(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""
        if not self._problem:
            if self._drawing.kind == "bars":
                self._add_bars(batch.slice(0, max(MOST_BARS - self._rows, 0)))
            else:
                self._add_points(batch.slice(0, max(MOST_POINTS - self._kept, 0)))
                self._is_cut = self._is_cut or self._kept >= MOST_POINTS
        self._rows += batch.num_rows

    def watch(self, answer: Answer) -> Answer:
        """Return an answer whose rows come by here when they are read."""
        return _Watched(answer, self.add)

    def text(self, width: int, style: Style) -> str:
        """Return the drawing, in lines of at most `width` cells; empty where there is nothing to compare."""
        if self._rows < 2:
            return ""
        if self._problem:
            return f"({self._problem}: nothing is drawn)\n"
        lines = self._bars(width, style) if self._drawing.kind == "bars" else self._sparklines(width, style)
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _add_bars(self, rows: pa.RecordBatch) -> None:
        time = [] if self._time is None else [self._time]
        named = [[text_of(one) for one in values_of(rows.column(name))] for name in self._named_by + time]
        names = [[part[:_LONGEST_LABEL] for part in row] for row in zip(*named, strict=True)]
        self._labels += names or [[str(self._rows + n + 1)] for n in range(rows.num_rows)]
        self._values += values_of(rows.column(self._drawing.column))

    def _add_points(self, rows: pa.RecordBatch) -> None:
        count = rows.num_rows
        by = self._drawing.by
        names = [self._drawing.column] * count if by is None else map(text_of, values_of(rows.column(by)))
        times = [""] * count if self._time is None else map(text_of, values_of(rows.column(self._time)))
        values = map(_float, values_of(rows.column(self._drawing.column)))
        for name, time, value in zip(names, times, values, strict=True):
            label = name[:_LONGEST_LABEL]
            if label not in self._lines and len(self._lines) >= MOST_LINES:
                self._is_cut = True
                continue
            self._lines.setdefault(label, _Line()).points.append((time, value))
            self._kept += 1

    def _bars(self, width: int, style: Style) -> Iterator[str]:
        labels = _joined(self._labels, len(self._named_by))
        values = [_float(one) for one in self._values]
        told = [_number(one) for one in self._values]
        finite = [one for one in values if one is not None and math.isfinite(one)]
        scale = _Scale.of(values)
        sizes = _sizes([*map(cell_len, map(shown, labels))], [*map(len, told)], width)
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        extent = f"from {_number(low)} to {_number(high)}" if low < 0 else f"up to {_number(max(high, 0))}"
        yield from _wrapped(f"{self._drawing.column}: bars {extent}", width, style)
        for label, value, number in zip(labels, values, told, strict=True):
            bar = scale.bar(value, sizes[2], blocks=style.blocks)
            yield _fit(_GAP.join((style.label(label, sizes[0]), number.rjust(sizes[1]), bar)), width)
        if self._rows > len(labels):
            yield from _wrapped(f"(drawn: the first {len(labels):,} of {self._rows:,} rows)", width, style)

    def _sparklines(self, width: int, style: Style) -> Iterator[str]:
        times = self._times()
        lines = {name: self._laid_out(line, times) for name, line in self._lines.items()}
        extents = {name: _extent(values) for name, values in lines.items()}
        longest = max(map(len, lines.values()))
        sizes = _sizes(
            [cell_len(shown(name)) for name in lines], [len(one) for one in extents.values()], width
        )
        by = f" by {self._drawing.by}" if self._drawing.by else ""
        about = f"{self._drawing.column}{by}: each line on a scale of its own"
        if len(times) > 1:
            first, *_, last = _short(times)
            about += f", {self._time} from {first} to {last}"
        if (marks := -(-longest // sizes[2])) > 1:
            about += f", each mark the highest of {marks}"
        yield from _wrapped(about, width, style)
        for name, values in lines.items():
            marks_text = _marks(_binned(values, marks), blocks=style.blocks).ljust(min(longest, sizes[2]))
            cells = (style.label(name, sizes[0]), marks_text, extents[name])
            yield _fit(_GAP.join(cells), width)
        if self._is_cut:
            what = f"{MOST_LINES} values of {self._drawing.by}, and {MOST_POINTS:,} rows, at most"
            yield from _wrapped(f"(drawn: {what})", width, style)

    def _times(self) -> list[str]:
        """Return the times that the marks stand for, in order; none if a line has one of them twice."""
        if self._time is None:
            return []
        for line in self._lines.values():
            if len({time for time, _ in line.points}) < len(line.points):
                return []
        return sorted({time for line in self._lines.values() for time, _ in line.points})

    @staticmethod
    def _laid_out(line: _Line, times: Sequence[str]) -> list[float | None]:
        if not times:
            return [value for _, value in line.points]
        there = dict(line.points)
        return [there.get(time) for time in times]


class _Watched(Answer):
    """An answer whose batches somebody else sees as well."""

    def __init__(self, answer: Answer, see: Callable[[pa.RecordBatch], None]) -> None:
        self._answer = answer
        self._see = see
        self.schema = answer.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self._answer.batches():
            self._see(batch)
            yield batch

    def close(self) -> None:
        self._answer.close()


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where bars begin and end; values are divided by the largest, so none is too large to draw."""

    unit: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float | None]) -> _Scale:
        known = [one for one in values if one is not None and not math.isnan(one)]
        finite = [one for one in known if math.isfinite(one)]
        unit = max((abs(one) for one in finite), default=0.0) or 1.0
        low, high = min([0.0, *finite]) / unit, max([0.0, *finite]) / unit
        if math.inf in known or low == high:
            high = high or 1.0
        if -math.inf in known:
            low = low or -0.25
        return _Scale(unit, low, high)

    def bar(self, value: float | None, size: int, *, blocks: bool) -> str:
        room = size if self.low == 0 else size - 1
        cells = room / (self.high - self.low)  # of one unit, on both sides of the axis
        left = 0 if self.low == 0 else max(1, round(cells * -self.low))
        right = max(room - left, 0)
        axis = "" if self.low == 0 else ("│" if blocks else "|")
        if value is None or math.isnan(value) or value == 0:
            return " " * left + axis
        if math.isinf(value):
            full = "█" if blocks else "#"
            if value < 0:
                return "<" + full * (left - 1) + axis
            return " " * left + axis + full * (right - 1) + ">"
        share = value / self.unit
        if share < 0:
            return _leftwards(min(-share * cells, left), blocks=blocks).rjust(left) + axis
        bar = _rightwards(min(share * cells, right), blocks=blocks) if right else ""
        return " " * left + axis + bar


def _rightwards(cells: float, *, blocks: bool) -> str:
    if not blocks:
        return "#" * max(round(cells), 1)
    eighths = max(round(cells * 8), 1)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _leftwards(cells: float, *, blocks: bool) -> str:
    if not blocks:
        return "#" * max(round(cells), 1)
    halves = max(round(cells * 2), 1)
    return "▐" * (halves % 2) + "█" * (halves // 2)


def _marks(values: Sequence[float | None], *, blocks: bool) -> str:
    """Return a mark a value: from zero, or from the lowest of negative ones, to the highest."""
    levels, zero = ("▁▂▃▄▅▆▇█", "·") if blocks else (".:-=+*#@", "_")
    finite = [one for one in values if one is not None and math.isfinite(one)]
    unit = max((abs(one) for one in finite), default=0.0) or 1.0
    low, high = min([0.0, *finite]) / unit, max([0.0, *finite]) / unit

    def mark(value: float | None) -> str:
        if value is None:
            return " "
        if math.isnan(value):
            return "?"
        if math.isinf(value):
            return "^" if value > 0 else "v"
        if low == 0 and value == 0:
            return zero
        place = (value / unit - low) / ((high - low) or 1.0)
        return levels[min(max(math.ceil(place * len(levels)) - 1, 0), len(levels) - 1)]

    return "".join(map(mark, values))


def _binned(values: Sequence[float | None], size: int) -> list[float | None]:
    if size == 1:
        return list(values)
    portions = (values[start : start + size] for start in range(0, len(values), size))
    return [
        max((one for one in portion if one is not None and not math.isnan(one)), default=None)
        for portion in portions
    ]


def _extent(values: Sequence[float | None]) -> str:
    finite = [one for one in values if one is not None and math.isfinite(one)]
    if not finite:
        return "no number"
    low, high = min(finite), max(finite)
    return f"max {_number(high)}" if low >= 0 else f"min {_number(low)} max {_number(high)}"


def _sizes(labels: Sequence[int], numbers: Sequence[int], width: int) -> tuple[int, int, int]:
    """Return the cells for labels, for numbers and for what is drawn; together no more than the terminal."""
    room = max(width, _NARROWEST) - 2 * len(_GAP)
    number = min(max(numbers, default=1), room // 2)
    label = max(min(max(labels, default=1), (room - number) * 3 // 5), 1)
    return label, number, max(room - number - label, 1)


def _fit(line: str, width: int) -> str:
    return line if cell_len(line) <= width else set_cell_size(line, width)


def _wrapped(line: str, width: int, style: Style) -> Iterator[str]:
    """Break a line of ours, in which column names stand, where the terminal ends."""
    taken = ""
    for word in shown(line).encode(style.encoding, "backslashreplace").decode(style.encoding).split(" "):
        if taken and cell_len(taken) + 1 + cell_len(word) > width:
            yield _fit(taken, width)
            taken = "  " + word
        else:
            taken = f"{taken} {word}" if taken else word
    yield _fit(taken, width)


def _joined(labels: list[list[str]], texts: int) -> list[str]:
    """Return one label a row: of those texts that are not the same in all, and of the time where needed."""
    columns = [list(column) for column in zip(*labels, strict=True)]
    named, times = columns[:texts], [_short(column) for column in columns[texts:]]
    if len(set(zip(*named, strict=True))) < len(labels):
        named = times + named
    telling = [column for column in named if len(set(column)) > 1] or named
    return [", ".join(part for part in parts if part) for parts in zip(*telling, strict=True)]


def _short(texts: Sequence[str]) -> list[str]:
    """Return times to the minute, or their days where all are midnights; other texts as they are."""
    if not all(_TIME.fullmatch(text) for text in texts if text):
        return list(texts)
    size = 10 if all(text[11:16] in ("", "00:00") for text in texts) else 16
    return [text[:size].replace("T", " ") for text in texts]


def _float(value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _number(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if not math.isfinite(value):
        return str(value)
    if 1_000 <= abs(value) < 1e15:
        return f"{value:,.1f}".removesuffix(".0")
    return f"{value:.4g}"


def _problem(drawing: Drawing, schema: pa.Schema) -> str:
    for name in filter(None, (drawing.column, drawing.by)):
        if name not in schema.names:
            return f"the answer has no column {name}"
    kind = schema.field(drawing.column).type
    return "" if _is(kind, _NUMBERS) else f"{drawing.column} holds no numbers"


def _is(kind: pa.DataType, kinds: Iterable[Callable[[pa.DataType], bool]]) -> bool:
    return any(fits(kind) for fits in kinds)
