"""Which ids lie in which file: sorted hashes in memory, read from the files' id columns.

Files never change, so what was read of one stays true. Memory is bounded: beyond the
budget, the workspaces that were asked for longest ago are forgotten, and files of a
workspace that alone is larger are read each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from archiver.columns import IDENTITY_COLUMN
from archiver.datafile import decode, suffix_of
from archiver.errors import IntegrityError
from archiver.ledger.entry import DataFile
from archiver.store.base import Store

_BUDGET_IDS: Final = 24_000_000  # 12 bytes each
_WHOLE_FILE_BYTES: Final = 1 << 20  # below, one request for all is cheaper than three for a column
_READERS: Final = 8
_MOST_RUNS: Final = 8


def hash_ids(ids: pl.Series) -> np.ndarray:
    """Return a 64-bit hash of each id. The same within one process, not between processes."""
    return ids.hash(seed=0x5EED).to_numpy()


@dataclass(slots=True)
class _Run:
    """Hashes in ascending order, and of each the number of its file."""

    hashes: np.ndarray
    files: np.ndarray


@dataclass(slots=True)
class _Workspace:
    runs: list[_Run] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    ids: int = 0


class KnownIds:
    """See the module's docstring."""

    def __init__(self, store: Store, *, budget_ids: int = _BUDGET_IDS) -> None:
        self._store = store
        self._budget = budget_ids
        self._workspaces: OrderedDict[str, _Workspace] = OrderedDict()
        self._keys: list[str] = []  # file number -> key
        self._numbers: dict[str, int] = {}

    def remember(self, file: DataFile, ids: pa.ChunkedArray) -> None:
        """Take note of a file that was just written, without reading it back."""
        self._add(file.partition.workspace, [(file, np.sort(hash_ids(pl.Series(ids))))])

    def probe(
        self, workspace: str, rows: np.ndarray, hashes: np.ndarray, files: Mapping[str, DataFile]
    ) -> dict[str, np.ndarray]:
        """Return, by file key, which of `rows` may have their id in that file.

        Args:
            rows: A number for each hash; what is returned of it.
            hashes: Of the ids looked for, in any order.
            files: The files to look in, all of `workspace`.
        """
        order = np.argsort(hashes)
        rows, hashes = rows[order], hashes[order]
        found: dict[str, list[np.ndarray]] = {}
        for run in self._runs(workspace, files):
            left = np.searchsorted(hashes, run.hashes, side="left")
            right = np.searchsorted(hashes, run.hashes, side="right")
            for position in np.flatnonzero(right > left).tolist():
                key = self._keys[run.files[position]]
                if key in files:  # a dead attempt's file may still be remembered
                    found.setdefault(key, []).append(rows[left[position] : right[position]])
        return {key: np.unique(np.concatenate(parts)) for key, parts in found.items()}

    def intersects(self, ours: Mapping[str, DataFile], theirs: Mapping[str, DataFile]) -> bool:
        """Say whether two sets of files, all of one workspace, share an id (or, rarely, a hash)."""
        mine = [self._hashes_of(file) for file in ours.values()]
        if not mine:
            return False
        wanted = np.concatenate(mine)
        return any(bool(np.isin(self._hashes_of(file), wanted).any()) for file in theirs.values())

    def _runs(self, workspace: str, files: Mapping[str, DataFile]) -> Iterator[_Run]:
        here = self._workspaces.get(workspace)
        if here is not None:
            self._workspaces.move_to_end(workspace)
        missing = [file for key, file in files.items() if here is None or key not in here.covered]
        for start in range(0, len(missing), 256):
            part = missing[start : start + 256]
            with ThreadPoolExecutor(min(_READERS, len(part))) as readers:
                loaded = list(zip(part, readers.map(self._hashes_of, part), strict=True))
            yield from self._add(workspace, loaded)
        here = self._workspaces.get(workspace)
        if here is not None:
            yield from list(here.runs)

    def _add(self, workspace: str, loaded: list[tuple[DataFile, np.ndarray]]) -> list[_Run]:
        """Keep what was loaded if the budget allows; else return it, to be used once."""
        size = sum(len(hashes) for _, hashes in loaded)
        run = self._as_run(loaded)
        here = self._workspaces.get(workspace)
        if size + (here.ids if here else 0) > self._budget:
            return [run]
        while self._workspaces and size + sum(w.ids for w in self._workspaces.values()) > self._budget:
            oldest = next(iter(self._workspaces))
            if oldest == workspace:
                self._workspaces.move_to_end(workspace)
                continue
            del self._workspaces[oldest]
        here = self._workspaces.setdefault(workspace, _Workspace())
        here.runs.append(run)
        here.covered.update(file.key for file, _ in loaded)
        here.ids += size
        if len(here.runs) > _MOST_RUNS:
            here.runs = [_merge(here.runs)]
        return []

    def _as_run(self, loaded: list[tuple[DataFile, np.ndarray]]) -> _Run:
        for file, _ in loaded:
            if file.key not in self._numbers:
                self._numbers[file.key] = len(self._keys)
                self._keys.append(file.key)
        return _merge(
            [
                _Run(hashes, np.full(len(hashes), self._numbers[file.key], dtype=np.int32))
                for file, hashes in loaded
            ]
        )

    def _hashes_of(self, file: DataFile) -> np.ndarray:
        dataset = file.partition.dataset
        identity = IDENTITY_COLUMN[dataset]
        if file.bytes > _WHOLE_FILE_BYTES and suffix_of(file.key) == "parquet":
            filesystem, root = self._store.arrow()
            try:
                with filesystem.open_input_file(root + file.key) as source:
                    table = pq.ParquetFile(source).read(columns=[identity], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise IntegrityError(f"{file.key}: its ids cannot be read: {error}"[:400]) from error
        else:
            table = decode(self._store.get(file.key), file.key, dataset, [identity])
        return np.sort(hash_ids(pl.Series(table[identity])))


def _merge(runs: list[_Run]) -> _Run:
    hashes = np.concatenate([run.hashes for run in runs])
    files = np.concatenate([run.files for run in runs])
    order = np.argsort(hashes, kind="stable")
    return _Run(hashes[order], files[order])
