"""Rows of the archive's data files as events on their way, some thousand at a time.

Rows are chosen in Arrow, before any of them becomes an object of Python. Only the columns that
forwarding needs are read. They come in the file's order, which is that of their times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archiver import clock, datafile
from archiver.block import Block
from archiver.errors import IntegrityError
from archiver.forward.base import Outgoing
from archiver.forward.events import COLUMNS, ROW_EVENT_TYPE, outgoing
from archiver.ledger.entry import DataFile, digest_of
from archiver.store.base import Store
from archiver.validate import Rules, Validator

DATASETS: Final = ("events", "alerts")
_BATCH_ROWS: Final = 8_192
_BATCH_BYTES: Final = 8 << 20
_LINES: Final = 4_096

Want = Callable[[Outgoing], bool]


class Stretch(NamedTuple):
    """Consecutive rows of one file, less those that are not wanted.

    Attributes:
        end: How many rows of the file are read when these are.
        filtered: Rows among them that are within the times, and not wanted.
    """

    events: list[Outgoing]
    end: int
    filtered: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows of a file are meant.

    Attributes:
        since_us, until_us: At or after, and before; `event_time` in microseconds since 1970.
        wanted: By event type, action and workspace alone; None is all.
        origin: Only rows that were first archived in the file of this stem.
        spans: Only rows whose time is within one of these, both ends included; None is all.
        without: Not those within one of these; they count as places.
    """

    since_us: int | None = None
    until_us: int | None = None
    wanted: Want | None = None
    origin: str | None = None
    spans: tuple[tuple[int, int], ...] | None = None
    without: tuple[tuple[int, int], ...] = ()

    @property
    def is_part(self) -> bool:
        """Whether places count the rows of `origin` or `spans`, and not those of the file."""
        return self.origin is not None or self.spans is not None

    def may_hold(self, low_us: int, high_us: int) -> bool:
        """Whether rows between these times, both included, can be meant."""
        return (
            (self.since_us is None or high_us >= self.since_us)
            and (self.until_us is None or low_us < self.until_us)
            and (self.spans is None or any(low <= high_us and low_us <= high for low, high in self.spans))
        )


def intact(store: Store, file: DataFile) -> bytes:
    """Read a data file and hold it against its digest.

    Raises:
        ObjectNotFoundError: It is gone.
        IntegrityError: It was altered.
        StoreError: It could not be read.
    """
    content = store.get(file.key)
    if (found := digest_of(content)) != file.digest:
        raise IntegrityError(
            f"{file.key}: expected {file.digest}, found {found}",
            hint="nothing of it was forwarded: run `archiver verify`, restore the file from a copy",
        )
    return content


def events_of(
    content: bytes, file: DataFile, choice: Choice, *, taken: int = 0, received_us: int = 0
) -> Iterator[Stretch]:
    """Yield the chosen rows of a data file, in their order.

    Args:
        taken: So many rows were taken before; see `Choice.is_part`.
        received_us: For rows of JSON lines, which do not tell when they were received.

    Raises:
        IntegrityError: It cannot be read as what it is.
    """
    dataset = cast('Literal["events", "alerts"]', file.partition.dataset)
    skip = 0 if choice.is_part else taken
    counted = 0  # rows of `origin` or `spans`
    if datafile.suffix_of(file.key) == "parquet":
        batches = _of_parquet(content, file, dataset, choice, skip)
    else:
        batches = _of_lines(content, file, dataset, skip, received_us)
    for start, batch in batches:
        rows = batch
        places = np.arange(start + 1, start + rows.num_rows + 1)
        times = rows.column("event_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        if choice.is_part:
            mask = _part(rows, times, choice)
            rows, times = rows.filter(pa.array(mask)), times[mask]
            places = np.arange(counted + 1, counted + rows.num_rows + 1)
            counted += rows.num_rows
        if not rows.num_rows:
            continue
        end = int(places[-1])
        if end <= taken:
            continue
        meant = (places > taken) & _within(times, choice)
        kept = meant
        if choice.wanted is not None and meant.any():
            kept = meant & _wanted(rows, dataset, file.partition.workspace, choice.wanted)
        if not kept.all():
            rows, places = rows.filter(pa.array(kept)), places[kept]
        if rows.column("body").null_count:
            raise IntegrityError(f"{file.key}: a row has no body")
        events = outgoing(rows, dataset, places.tolist())
        yield Stretch(events, end, int(meant.sum()) - len(events))


def _within(times: np.ndarray, choice: Choice) -> np.ndarray:
    found = np.ones(len(times), dtype=bool)
    if choice.since_us is not None:
        found &= times >= choice.since_us
    if choice.until_us is not None:
        found &= times < choice.until_us
    for low, high in choice.without:
        found &= (times < low) | (times > high)
    return found


def _part(rows: pa.RecordBatch, times: np.ndarray, choice: Choice) -> np.ndarray:
    if choice.origin is not None:
        same = pc.equal(rows.column("origin"), choice.origin)
        return cast("np.ndarray", pc.fill_null(same, False).to_numpy(zero_copy_only=False))
    found = np.zeros(len(times), dtype=bool)
    for low, high in choice.spans or ():
        found |= (times >= low) & (times <= high)
    return found


def _wanted(rows: pa.RecordBatch, dataset: Any, workspace: str, wanted: Want) -> np.ndarray:
    """Ask once for each event type and action that occurs."""
    types = _codes(rows.column("event_type"), ROW_EVENT_TYPE)
    actions = (
        _codes(rows.column("action"), "") if dataset == "events" else (np.zeros(rows.num_rows, int), [""])
    )
    both, numbers = np.unique(types[0] * len(actions[1]) + actions[0], return_inverse=True)
    answers = []
    for code in both.tolist():
        event_type, action = types[1][code // len(actions[1])], actions[1][code % len(actions[1])]
        answers.append(wanted(Outgoing(b"", dataset, "", workspace, event_type, action, 0, 0)))
    return np.array(answers, dtype=bool)[numbers]


def _codes(column: pa.Array, default: str) -> tuple[np.ndarray, list[str]]:
    encoded = pc.fill_null(column, default).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _of_parquet(
    content: bytes, file: DataFile, dataset: str, choice: Choice, skip: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield batches of rows with the number of the first; those that cannot be meant are left out."""
    names = [*COLUMNS[dataset], *(("origin",) if choice.origin is not None else ())]
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as opened:
            if absent := set(names).difference(opened.schema_arrow.names):
                raise IntegrityError(f"{file.key}: expected the columns of {dataset}, found no {min(absent)}")
            start = 0
            for group in range(opened.num_row_groups):
                meta = opened.metadata.row_group(group)
                if start + meta.num_rows <= skip or not _group_may_hold(meta, choice):
                    start += meta.num_rows
                    continue
                most = max(1, min(_BATCH_ROWS, meta.num_rows * _BATCH_BYTES // max(meta.total_byte_size, 1)))
                for batch in opened.iter_batches(most, [group], names, use_threads=False):
                    if start + batch.num_rows > skip:
                        yield start, batch
                    start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"{file.key}: cannot be read as Parquet: {error}"[:400],
            hint="the archive was damaged: run `archiver verify`, restore the file from a copy",
        ) from error


def _group_may_hold(meta: Any, choice: Choice) -> bool:
    for number in range(meta.num_columns):
        column = meta.column(number)
        if column.path_in_schema == "event_time":
            told = column.statistics
            if told is None or not told.has_min_max or not isinstance(told.min, datetime):
                return True
            return choice.may_hold(_us(told.min), _us(told.max))
    return True


def _us(time: datetime) -> int:
    return clock.to_us(time if time.tzinfo is not None else time.replace(tzinfo=UTC))


def _of_lines(
    content: bytes, file: DataFile, dataset: str, skip: int, received_us: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """As `_of_parquet`, for bodies alone: judging them again gives their columns back."""
    bodies = datafile.bodies_of(content, file.key)
    validator = Validator(Rules(source=""))
    for start in range(skip - skip % _LINES, len(bodies), _LINES):
        part = bodies[start : start + _LINES]
        count, nothing = len(part), [0] * len(part)
        block = Block(
            0, part, list(range(count)), nothing, [received_us] * count, [None] * count, shape="archived"
        )
        judged = validator.validate(block)
        found = judged.tables.get(dataset)
        if judged.rejections or found is None or found.num_rows != count:
            raise IntegrityError(
                f"{file.key}: lines {start + 1} to {start + count}: not all of them are {dataset}"
            )
        if isinstance(found, pa.RecordBatch):
            yield start, found.sort_by("ordinal")
        else:
            yield start, found.sort_by("ordinal").combine_chunks().to_batches()[0]
