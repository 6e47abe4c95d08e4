"""The archive's side: how many events lie under a workspace and day, their ids, and where an id lies else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver.archive import Archive
from archiver.columns import IDENTITY_COLUMN
from archiver.datafile import decode
from archiver.index import hashing
from archiver.index.known import Background, KnownIds
from archiver.index.reading import hashes_of, opened, rows_of
from archiver.ledger.entry import DataFile
from archiver.partition import DAY_US

_READERS: Final = 4
_EPOCH: Final = date(1970, 1, 1)

At = tuple[str | None, int]  # workspace and UTC day, counted from 1970


@dataclass(slots=True)
class Ids:
    """Hashes of the ids of some places, ascending.

    Attributes:
        hashes: Of workspace and id, see `archiver.index.hashing`.
        files: For each the number of its file in `of`.
        places: For each file the number of its place.
        seen: For each whether the database has a row with it.
    """

    hashes: np.ndarray
    files: np.ndarray
    seen: np.ndarray
    of: list[DataFile]
    places: np.ndarray

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, int]:
        """Return for each hash the number of the place where it lies, or -1; and how many were met before.

        What is found is noted as seen.
        """
        found = np.full(len(hashes), -1, dtype=np.int64)
        if not len(self.hashes):
            return found, 0
        at = np.searchsorted(self.hashes, hashes)
        at[at == len(self.hashes)] = 0
        hit = self.hashes[at] == hashes
        found[hit] = self.places[self.files[at[hit]]]
        fresh = np.unique(at[hit])
        fresh = fresh[~self.seen[fresh]]
        self.seen[fresh] = True
        return found, int(np.count_nonzero(hit)) - len(fresh)

    def unseen(self) -> Iterator[tuple[DataFile, np.ndarray]]:
        """Yield the files with events that no row had the id of, and the hashes of those."""
        hashes, files = self.hashes[~self.seen], self.files[~self.seen]
        order = np.argsort(files, kind="stable")
        hashes, files = hashes[order], files[order]
        cuts = np.flatnonzero(np.diff(files)) + 1
        if len(files):
            for start, part in zip([0, *cuts.tolist()], np.split(hashes, cuts), strict=True):
                yield self.of[files[start]], part


@dataclass(slots=True)
class ArchivedEvents:
    """Events of one snapshot.

    Attributes:
        files: The data files of each place within the days that are compared.
        window_us: How far the times of one identity lie apart at most.
    """

    archive: Archive
    window_us: int
    files: dict[At, list[DataFile]] = field(default_factory=lambda: defaultdict(list))
    _known: KnownIds | None = None

    @staticmethod
    def of(archive: Archive, since_day: int, until_day: int) -> ArchivedEvents:
        """Take the files of these days from the ledger; none of them is read."""
        head = archive.ledger.snapshot
        found = ArchivedEvents(archive, int(head.archive["identity_window_days"]) * DAY_US)
        since_us, until_us = since_day * DAY_US, until_day * DAY_US
        for file in head.files.select("events", since_us=since_us, until_us=until_us, digests=False):
            found.files[place_of(file)].append(file)
        return found

    def count(self, at: At) -> int:
        return sum(file.rows for file in self.files.get(at, ()))

    def ids(self, places: Sequence[At]) -> Ids:
        """Read the ids of these places.

        Raises:
            FileVanishedError: A file is not there any more.
        """
        files = [file for at in places for file in self.files.get(at, ())]
        of = [number for number, at in enumerate(places) for _ in self.files.get(at, ())]
        with ThreadPoolExecutor(_READERS) as readers:
            parts = list(readers.map(lambda file: hashes_of(self.archive.store, file), files))
        hashes = np.concatenate([np.empty(0, np.uint64), *parts])
        numbers = np.repeat(np.arange(len(files), dtype=np.int32), [len(part) for part in parts])
        order = np.argsort(hashes, kind="stable")
        seen = np.zeros(len(hashes), dtype=bool)
        return Ids(hashes[order], numbers[order], seen, files, np.array(of, dtype=np.int64))

    def events(self, file: DataFile, hashes: np.ndarray | None = None) -> pl.DataFrame:
        """Return `workspace`, `id`, `at` (µs since 1970) of a file's events; with hashes, of those alone."""
        wanted = [IDENTITY_COLUMN["events"], "event_time"]
        with opened(self.archive.store, file) as source:
            if isinstance(source, bytes):
                table = decode(source, file.key, "events", wanted)
            else:
                table = source.read(columns=wanted, use_threads=False)
        workspace = file.partition.workspace
        frame = pl.DataFrame(
            {
                "id": pl.Series(table[wanted[0]]),
                "at": pl.Series(table["event_time"].cast(pa.int64())),
            }
        ).with_columns(workspace=pl.lit(workspace))
        if hashes is not None:
            frame = frame.filter(pl.Series(np.isin(hashing.hash_ids(frame["id"], workspace), hashes)))
        return frame.select("workspace", "id", "at")

    def near(self, rows: pl.DataFrame) -> np.ndarray:
        """Say of each row (`workspace`, `id`, `at`) whether an event of its identity is archived on any day.

        Raises:
            FileVanishedError: A file is not there any more.
        """
        found = np.zeros(rows.height, dtype=bool)
        if not rows.height:
            return found
        background = Background(self.archive.ledger.snapshot)
        if self._known is None:
            self._known = KnownIds(self.archive.ledger)
        times = rows["at"].to_numpy()
        hits = self._known.hits(rows["workspace"], rows["id"], times, self.window_us, background)
        for key, file in background.find(hits).items():
            if file.partition.dataset == "alerts":
                continue
            ours = rows[hits[key]].select("id", "at").with_columns(row=pl.Series(hits[key]))
            theirs = rows_of(self.archive.store, file, set(ours["id"].to_list()), "events")
            found[_same(ours, theirs, self.window_us)] = True
        return found


def place_of(file: DataFile) -> At:
    """Return the workspace and the day of a file's events."""
    where = file.partition
    return where.workspace, (date.fromisoformat(where.dt) - _EPOCH).days


def _same(ours: pl.DataFrame, theirs: pa.Table, window_us: int) -> np.ndarray:
    """Return the numbers of our rows of which an archived one has the id, and a near time."""
    events = pl.DataFrame(
        {"id": pl.Series(theirs["id"]), "then": pl.Series(theirs["event_time"].cast(pa.int64()))},
        schema={"id": pl.String, "then": pl.Int64},
    )
    joined = ours.join(events, on="id", how="inner")
    return joined.filter((pl.col("at") - pl.col("then")).abs() <= window_us)["row"].unique().to_numpy()
