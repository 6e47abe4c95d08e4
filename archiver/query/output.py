"""Answers, written: as a table for people, or as CSV, JSON, JSON lines, Markdown, Parquet.

Text of events is data: nothing in it is taken for markup, control characters are shown
instead of sent to a terminal, and in CSV a text that a spreadsheet would take for a
formula gets a `'` before it (`archiver.query.escaping`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, BinaryIO, Final, Literal, Protocol, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from rich.cells import cell_len, set_cell_size

from archiver.errors import QueryError
from archiver.query.escaping import json_text, markdown_text, no_formula, shown
from archiver.query.session import Answer
from archiver.query.values import json_value, text_of, values_of

Format = Literal["table", "csv", "json", "jsonl", "markdown", "parquet"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)

_SAMPLED_ROWS: Final = 1_000  # whose widths decide those of a table's columns
_WIDEST_UNCUT: Final = 60
_NARROWEST: Final = 8
# The semicolon and the tab too: they part cells where a list is not parted by commas.
_QUOTED: Final = re.compile(r'[",;\t\r\n]|^\s|\s$')
_GAP: Final = "  "
_NUMBERS: Final = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


class Rows(Protocol):
    """Rows that come in batches: an answer, or a part of one."""

    @property
    def schema(self) -> pa.Schema: ...

    def batches(self) -> Iterator[pa.RecordBatch]: ...


def write_answer(
    answer: Answer,
    form: Format,
    stream: BinaryIO,
    *,
    raw: bool = False,
    width: int | None = None,
    document: dict[str, Any] | None = None,
) -> int:
    """Write an answer to `stream`, batch by batch, and return the number of its rows.

    Args:
        raw: In CSV, leave texts that look like formulas as they are.
        width: Of the terminal that this goes to, in cells; None for a file or a pipe, where
            nothing of a table is cut.
        document: Members to put around the rows of `json`; they become the member `rows`.

    Raises:
        QueryError: The statement failed, or a value has no form in this format. What was
            written before stays.
    """
    with answer:
        if form == "parquet":
            return _write_parquet(answer, stream)
        if form == "table":
            return write_table(answer, stream, width)
        writers: dict[str, Callable[[], int]] = {
            "csv": lambda: _write_csv(answer, stream, raw=raw, terminal=width is not None),
            "json": lambda: _write_json(answer, stream, document),
            "jsonl": lambda: _write_lines(answer, stream),
            "markdown": lambda: _write_markdown(answer, stream),
        }
        return writers[form]()


def _rows(answer: Rows) -> Iterator[tuple[Any, ...]]:
    for batch in answer.batches():
        yield from zip(*(values_of(column) for column in batch.columns), strict=True)


def _objects(answer: Rows) -> Iterator[bytes]:
    names = answer.schema.names
    for row in _rows(answer):
        tree = {name: json_value(value) for name, value in zip(names, row, strict=True)}
        yield json_text(orjson.dumps(tree).decode()).encode()


def _write_lines(answer: Rows, stream: BinaryIO) -> int:
    count = 0
    for one in _objects(answer):
        stream.write(one + b"\n")
        count += 1
    return count


def _write_json(answer: Rows, stream: BinaryIO, document: dict[str, Any] | None) -> int:
    count = 0
    if document is not None:
        stream.write(orjson.dumps(document)[:-1] + (b"," if document else b"") + b'"rows":')
    stream.write(b"[")
    for one in _objects(answer):
        stream.write((b",\n" if count else b"\n") + one)
        count += 1
    stream.write((b"\n]" if count else b"]") + (b"}\n" if document is not None else b"\n"))
    return count


def _write_csv(answer: Rows, stream: BinaryIO, *, raw: bool, terminal: bool) -> int:
    """As RFC 4180 has it, but lines end in a line feed alone; null is empty, an empty text is `""`."""

    def cell(value: Any) -> str:
        if value is None:
            return ""
        text = text_of(value)
        # A number may begin with a minus; a text that does is guarded.
        if not raw and not isinstance(value, int | float | Decimal):
            text = no_formula(text)
        text = shown(text) if terminal else text
        # (Python's own writer leaves a lone carriage return unquoted.)
        return '"' + text.replace('"', '""') + '"' if not text or _QUOTED.search(text) else text

    stream.write((",".join(cell(name) for name in answer.schema.names) + "\n").encode())
    count = 0
    for row in _rows(answer):
        stream.write((",".join(cell(value) for value in row) + "\n").encode())
        count += 1
    return count


def _write_markdown(answer: Rows, stream: BinaryIO) -> int:
    def cells(texts: list[str]) -> bytes:
        return f"| {' | '.join(map(markdown_text, texts))} |\n".encode()

    names = answer.schema.names
    stream.write(cells(names) + f"|{' --- |' * len(names)}\n".encode())
    count = 0
    for row in _rows(answer):
        stream.write(cells([text_of(value) for value in row]))
        count += 1
    return count


def _write_parquet(answer: Rows, stream: BinaryIO) -> int:
    target = pa.schema([pa.field(part.name, _storable(part.type), part.nullable) for part in answer.schema])
    count = 0
    try:
        with pq.ParquetWriter(stream, target, compression="zstd") as writer:
            for batch in answer.batches():
                arrays = [
                    column if column.type == part.type else pa.array(values_of(column), part.type)
                    for column, part in zip(batch.columns, target, strict=True)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=target))
                count += batch.num_rows
    except pa.ArrowException as error:
        raise QueryError(
            f"the answer cannot be written as Parquet: {shown(str(error)[:400])}",
            hint="cast the column to VARCHAR",
        ) from error
    return count


def _storable(kind: pa.DataType) -> pa.DataType:
    """Return the type that Parquet stores values of `kind` in: text, for those that it does not know."""
    return pa.string() if kind == pa.month_day_nano_interval() or pa.types.is_duration(kind) else kind


def write_table(answer: Rows, stream: BinaryIO, width: int | None) -> int:
    """Write rows as a table, or one value a line if it is too wide; see `write_answer`.

    What a terminal would act upon is shown instead.
    """
    names = [shown(name) for name in answer.schema.names]
    right = [is_number(kind) for kind in answer.schema.types]
    if width is not None and len(names) * (_NARROWEST + len(_GAP)) > width:
        return _write_records(answer, names, stream)
    sample: list[list[str]] = []
    widths: list[int] = []
    count = 0

    def begin() -> None:
        needed = [max(cell_len(row[at]) for row in [names, *sample]) for at in range(len(names))]
        widths.extend(_fitted(needed, width))
        put(names)
        stream.write((_GAP.join("─" * size for size in widths) + "\n").encode())
        for row in sample:
            put(row)

    def put(row: list[str]) -> None:
        cells = (
            _cell(text, size, to_the_right=number, cut=width is not None)
            for text, size, number in zip(row, widths, right, strict=True)
        )
        stream.write((_GAP.join(cells).rstrip() + "\n").encode())

    for row in _rows(answer):
        texts = [shown(text_of(value)) for value in row]
        count += 1
        if widths:
            put(texts)
        else:
            sample.append(texts)
            if len(sample) == _SAMPLED_ROWS:
                begin()
    if not widths:
        begin()
    return count


def is_number(kind: pa.DataType) -> bool:
    """Say whether values of this type are numbers, which stand to the right."""
    return any(fits(kind) for fits in _NUMBERS)


def _write_records(answer: Rows, names: list[str], stream: BinaryIO) -> int:
    """Write each row as lines of name and value: for more columns than a terminal has room for."""
    longest = max(cell_len(name) for name in names)
    count = 0
    for row in _rows(answer):
        count += 1
        lines = [f"─── {count}"]
        lines += [
            f"{set_cell_size(name, longest)}{_GAP}{shown(text_of(value))}"
            for name, value in zip(names, row, strict=True)
            if value is not None
        ]
        stream.write(("\n".join(lines) + "\n").encode())
    if count == 0:
        stream.write((", ".join(names) + "\n").encode())
    return count


def _fitted(needed: list[int], width: int | None) -> list[int]:
    """Return widths that fit into `width`, taken from the widest columns first."""
    if width is None:
        return [min(size, _WIDEST_UNCUT) for size in needed]
    room = max(width - len(_GAP) * (len(needed) - 1), 1)
    limit = max(needed, default=0)
    while limit > _NARROWEST and sum(min(size, limit) for size in needed) > room:
        limit -= 1
    return [min(size, limit) for size in needed]


def _cell(text: str, size: int, *, to_the_right: bool, cut: bool) -> str:
    length = cell_len(text)
    if length > size:
        return set_cell_size(text, size - 1) + "…" if cut else text
    return " " * (size - length) + text if to_the_right else text + " " * (size - length)
