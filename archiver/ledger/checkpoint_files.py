"""The data files in a checkpoint: rows of a table, pruned and filtered before one becomes an object."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archiver import layout
from archiver.ledger.checkpoint_commits import StoredCommits
from archiver.ledger.checkpoint_parts import SCHEMAS, Part
from archiver.ledger.entry import DataFile
from archiver.ledger.files import Entry, PartitionSize, Volume

# A file's commit and its number there, as one number.
_NUMBERS: Final = 1 << 32
_IDENT: Final = ["added_by", "number"]
_KEY: Final = ["dataset", "workspace", "dt", "suffix"]
_SIZES: Final = ["bytes", "rows", "min_us", "max_us"]
_DIGESTS: Final = ["digest", "bodies"]
_SLICE_GROUPS: Final = 8


@dataclass(frozen=True, slots=True)
class Where:
    """Which files are wanted. None is no restriction; times as in `Files.select`."""

    datasets: frozenset[str] | None = None
    workspaces: frozenset[str] | None = None
    days: frozenset[date] | None = None
    since_us: int | None = None
    until_us: int | None = None

    def groups(self, part: Part) -> list[int]:
        """Return the row groups of `part` that can hold such files."""
        wanted: list[tuple[str, Collection[Any] | None]] = [
            ("dataset", self.datasets),
            ("workspace", self.workspaces),
            ("dt", self.days),
        ]
        found = list(range(part.groups))
        for column, values in wanted:
            if values is not None and found:
                ordered, known = sorted(values), part.statistics(column)
                found = [group for group in found if _overlaps(ordered, known[group])]
        if part.kind == "files" and found and self.since_us is not None:
            known = part.statistics("max_us")
            found = [group for group in found if (one := known[group]) is None or one[1] >= self.since_us]
        if part.kind == "files" and found and self.until_us is not None:
            known = part.statistics("min_us")
            found = [group for group in found if (one := known[group]) is None or one[0] < self.until_us]
        return found

    def columns(self) -> list[str]:
        """Return the columns that `mask` looks at."""
        looked_at = {"dataset": self.datasets, "workspace": self.workspaces, "dt": self.days}
        times = {"max_us": self.since_us, "min_us": self.until_us}
        return [name for name, value in (looked_at | times).items() if value is not None]

    def mask(self, rows: pa.Table) -> np.ndarray:
        """Return for each row whether it is wanted."""
        mask = np.ones(rows.num_rows, dtype=bool)
        if self.datasets is not None:
            mask &= _is_in(rows["dataset"], pa.array(sorted(self.datasets), pa.string()))
        if self.workspaces is not None:
            mask &= _is_in(rows["workspace"], pa.array(sorted(self.workspaces), pa.string()))
        if self.days is not None:
            mask &= _is_in(rows["dt"], pa.array(sorted(self.days), pa.date32()))
        if self.since_us is not None:
            mask &= rows["max_us"].to_numpy() >= self.since_us
        if self.until_us is not None:
            mask &= rows["min_us"].to_numpy() < self.until_us
        return mask


def _overlaps(ordered: Sequence[Any], known: tuple[Any, Any] | None) -> bool:
    if known is None:
        return True
    at = bisect_left(ordered, known[0])
    return at < len(ordered) and ordered[at] <= known[1]


def _is_in(values: pa.ChunkedArray, wanted: pa.Array) -> np.ndarray:
    return np.asarray(pc.is_in(values, value_set=wanted).to_numpy(), dtype=bool)


def idents(rows: pa.Table) -> np.ndarray:
    """Return the number that stands for each file: of its commit, and of itself within it."""
    found: np.ndarray = rows["added_by"].to_numpy() * _NUMBERS + rows["number"].to_numpy()
    return found


class CheckpointFiles:
    """See `archiver.ledger.files.StoredFiles`. What later parts removed is taken off those before.

    Args:
        parts: Of the kind `files`, and of the kind `removals` where there is one.
        as_of: Show them as they were after this commit; None is the checkpoint's own.
        live: How many are live, if that is known.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Part, Part | None]],
        commits: StoredCommits,
        *,
        as_of: int | None = None,
        live: int | None = None,
    ) -> None:
        self._parts = parts
        self._commits = commits
        self._as_of = as_of
        self._known_live = live

    def __len__(self) -> int:
        return self._live

    @cached_property
    def _live(self) -> int:
        if self._known_live is not None:
            return self._known_live
        return sum(rows.num_rows for rows in self._slices(Where(), _IDENT, live=True))

    def select(
        self,
        dataset: str | None = None,
        *,
        workspaces: Collection[str] | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        digests: bool = True,
    ) -> list[DataFile]:
        where = Where(
            None if dataset is None else frozenset((dataset,)),
            None if workspaces is None else frozenset(workspaces),
            None,
            since_us,
            until_us,
        )
        columns = [*_KEY, *_SIZES, *(_DIGESTS if digests else ())]
        return [
            file
            for rows in self._slices(where, columns, live=True)
            for file in self._files(rows, digests=digests)
        ]

    def find(self, keys: Iterable[str]) -> dict[str, DataFile]:
        wanted = set(keys)
        where = _around({there for key in wanted if (there := layout.partition_of(key)) is not None})
        found: dict[str, DataFile] = {}
        if where is None:
            return found
        for rows in self._slices(where, [*_KEY, *_SIZES, *_DIGESTS], live=True):
            kept = rows.filter(pa.array([key in wanted for key in self._keys(rows)], pa.bool_()))
            found.update((file.key, file) for file in self._files(kept, digests=True))
        return found

    def entries(self, partitions: Collection[layout.Partition] | None = None) -> Iterator[Entry]:
        where = Where() if partitions is None else _around(partitions)
        if where is None:
            return
        for rows in self._slices(where, [*_KEY, *_SIZES, *_DIGESTS], live=False):
            files = self._files(rows, digests=True)
            for file, added_by, removed_by in zip(
                files, rows["added_by"].to_pylist(), rows["removed_by"].to_pylist(), strict=True
            ):
                if partitions is None or file.partition in partitions:
                    yield Entry(file, added_by, removed_by)

    def superseded(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for rows in self._slices(Where(), _KEY, live=False):
            gone = rows.filter(pc.is_valid(rows["removed_by"]))
            found.update(zip(self._keys(gone), gone["removed_by"].to_pylist(), strict=True))
        return found

    def volumes(self, gone: Collection[str] = ()) -> dict[tuple[str, str], Volume]:
        summed = self._grouped(["dataset", "workspace"], [*_SIZES], gone).aggregate(
            [("rows", "count"), ("rows", "sum"), ("bytes", "sum"), ("min_us", "min"), ("max_us", "max")]
        )
        return {
            (row["dataset"], row["workspace"]): Volume(
                row["rows_count"], row["rows_sum"], row["bytes_sum"], row["min_us_min"], row["max_us_max"]
            )
            for row in summed.to_pylist()
        }

    def partition_sizes(
        self,
        *,
        smaller_than: int,
        least: int = 1,
        gone: Collection[str] = (),
        besides: Collection[layout.Partition] = (),
    ) -> list[PartitionSize]:
        def with_small(rows: pa.Table) -> pa.Table:
            size = rows["bytes"].to_numpy()
            small = size < smaller_than
            rows = rows.append_column("small", pa.array(small.astype(np.int64)))
            return rows.append_column("small_bytes", pa.array(np.where(small, size, 0)))

        grouped = self._grouped(["dataset", "workspace", "dt"], ["bytes"], gone, with_small)
        summed = grouped.aggregate(
            [("bytes", "count"), ("bytes", "sum"), ("small", "sum"), ("small_bytes", "sum")]
        )
        worth = summed["small_sum"].to_numpy() >= least
        named = _around(besides)
        if named is not None:
            worth |= named.mask(summed)  # and perhaps others
        return [
            PartitionSize(
                layout.Partition(row["dataset"], row["workspace"], row["dt"].isoformat()),
                row["bytes_count"],
                row["bytes_sum"],
                row["small_sum"],
                row["small_bytes_sum"],
            )
            for row in summed.filter(pa.array(worth)).to_pylist()
        ]

    def _grouped(
        self,
        by: list[str],
        columns: list[str],
        gone: Collection[str],
        extend: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    ) -> pa.TableGroupBy:
        names = list(dict.fromkeys([*by, *columns]))
        left_out = self._idents_of(gone)
        kept = [extend(pa.schema([SCHEMAS["files"].field(name) for name in names]).empty_table())]
        for found in self._slices(Where(), names, live=True):
            rows = found
            if len(left_out):
                rows = rows.filter(pa.array(~np.isin(idents(rows), left_out)))
            kept.append(extend(rows.select(names)))
        return pa.concat_tables(kept).group_by(by, use_threads=False)

    def _idents_of(self, keys: Collection[str]) -> np.ndarray:
        wanted = set(keys)
        where = _around({there for key in wanted if (there := layout.partition_of(key)) is not None})
        found: list[np.ndarray] = [np.empty(0, np.int64)]
        if where is not None:
            for rows in self._slices(where, _KEY, live=True):
                kept = np.fromiter((key in wanted for key in self._keys(rows)), bool, rows.num_rows)
                found.append(idents(rows)[kept])
        return np.concatenate(found)

    def _slices(self, where: Where, columns: Sequence[str], *, live: bool) -> Iterator[pa.Table]:
        """Yield the files at `where`, `columns` and `added_by`, `number`, `removed_by` of them, in slices.

        Args:
            live: Only files that are live, as of the commit that is shown.
        """
        gone, gone_by = self._removals(where)
        names = list(dict.fromkeys([*_IDENT, "removed_by", *columns]))
        looked_at = list(dict.fromkeys([*names, *where.columns()]))
        for part, _ in self._parts:
            groups = where.groups(part)
            for start in range(0, len(groups), _SLICE_GROUPS):
                rows = part.read(looked_at, groups[start : start + _SLICE_GROUPS])
                mask = where.mask(rows)
                if self._as_of is not None:
                    mask &= rows["added_by"].to_numpy() <= self._as_of
                rows = rows.filter(pa.array(mask)).select(names)
                removed = rows["removed_by"].fill_null(-1).to_numpy().copy()
                if self._as_of is not None:
                    removed[removed > self._as_of] = -1
                if len(gone):
                    these = idents(rows)
                    at = np.minimum(np.searchsorted(gone, these), len(gone) - 1)
                    removed = np.where(gone[at] == these, gone_by[at], removed)
                if live:
                    rows, removed = rows.filter(pa.array(removed < 0)), removed[removed < 0]
                where_at = names.index("removed_by")
                shown = pa.array(removed, pa.int64(), mask=removed < 0)
                if rows.num_rows:
                    yield rows.set_column(where_at, "removed_by", shown)

    def _removals(self, where: Where) -> tuple[np.ndarray, np.ndarray]:
        """Return which files of earlier parts were removed, in order, and by which commit."""
        found = [
            part.read([*_IDENT, "removed_by"], where.groups(part))
            for _, part in self._parts
            if part is not None and part.entries
        ]
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows = pa.concat_tables(found)
        these, removed_by = idents(rows), rows["removed_by"].to_numpy()
        if self._as_of is not None:
            these, removed_by = these[removed_by <= self._as_of], removed_by[removed_by <= self._as_of]
        order = np.argsort(these)
        return these[order], removed_by[order]

    def _keys(self, rows: pa.Table) -> list[str]:
        stems = self._commits.stems(rows["added_by"].unique().to_pylist())
        folders: dict[tuple[str, str], str] = {}
        keys = []
        columns = (rows[name].to_pylist() for name in [*_IDENT, *_KEY])
        for added_by, number, dataset, workspace, dt, suffix in zip(*columns, strict=True):
            place = dataset, workspace
            if place not in folders:
                folders[place] = f"{dataset}/workspace={layout.escape(workspace)}/dt="
            keys.append(f"{folders[place]}{dt.isoformat()}/{stems[added_by]}-{number}.{suffix}")
        return keys

    def _files(self, rows: pa.Table, *, digests: bool) -> Iterator[DataFile]:
        names = [*_SIZES, *(_DIGESTS if digests else ())]
        columns = (rows[name].to_pylist() for name in names)
        for key, size, count, first, last, *both in zip(self._keys(rows), *columns, strict=True):
            digest, bodies = (f"sha256:{one.hex()}" for one in both) if both else ("", "")
            yield DataFile(key, digest, size, count, first, last, bodies)


def _around(partitions: Collection[layout.Partition]) -> Where | None:
    """Return where all files of these partitions are, and perhaps others; None for nowhere."""
    days = frozenset(day for one in partitions if (day := day_of(one.dt)) is not None)
    if not days:
        return None
    return Where(
        frozenset(one.dataset for one in partitions), frozenset(one.workspace for one in partitions), days
    )


def day_of(dt: str) -> date | None:
    """Return the day that a partition is of; None if there is no such day."""
    try:
        return date.fromisoformat(dt)
    except ValueError:
        return None
