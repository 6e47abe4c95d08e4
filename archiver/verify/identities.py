"""Is every event there once? Over a whole workspace, in bounded memory.

A row is 21 bytes here: hash, time, file. Beyond a limit the rows of a workspace are put
into temporary files by their hash, and looked at one after the other. Hashes only say
where to look: before anything is called a repeat, the ids themselves are read.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver.datafile import ids_of
from archiver.errors import IntegrityError, ObjectNotFoundError
from archiver.identity import DAY_US
from archiver.ledger.entry import DataFile
from archiver.verify.content import IDENTITY, identity_hashes
from archiver.verify.report import Findings

MOST_ROWS: Final = 16_000_000
_BUCKET_BITS: Final = 6
_TOLD: Final = 3


@dataclass(slots=True)
class _Again:
    """How many rows of a file are repeats, and some of them in words."""

    count: int = 0
    told: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.count} again: {', '.join(self.told)}"


class Workspace:
    """The identities of one workspace's live rows. `check` says what is wrong with them; then it is used up.

    Attributes:
        beyond: How many repeats lie further apart than the window; known after `check`.
    """

    def __init__(self, findings: Findings, window_days: int, *, most_rows: int = MOST_ROWS) -> None:
        self._findings = findings
        self._window_us = window_days * DAY_US
        self._most_rows = most_rows
        self._parts: list[np.ndarray] = []
        self._rows = 0
        self._buckets: list[IO[bytes]] = []
        self._open = ExitStack()
        self._again: dict[int, _Again] = defaultdict(_Again)
        self._orphans: Counter[int] = Counter()
        self.beyond = 0

    def add(self, identities: np.ndarray) -> None:
        """Take in the rows of one file."""
        self._parts.append(identities)
        self._rows += len(identities)
        if self._rows > self._most_rows:
            self._spill()

    def _spill(self) -> None:
        if not self._buckets:
            for _ in range(1 << _BUCKET_BITS):
                one = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `check`
                self._buckets.append(self._open.enter_context(one))
        rows = np.concatenate(self._parts)
        buckets = (rows["hash"] >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
        for number in np.unique(buckets).tolist():
            self._buckets[number].write(rows[buckets == number].tobytes())
        self._parts, self._rows = [], 0

    def check(
        self,
        files: Sequence[DataFile],
        added_by: Sequence[int],
        read: Callable[[str], bytes],
        *,
        all_read: bool,
    ) -> None:
        """Report repeats within the window as damage, count those beyond it, look for supplements' bases.

        Args:
            files: By number; what `IDENTITY.file` counts.
            added_by: The commit that added each file, by number: of two files, the later has the repeat.
            read: Gives an object's bytes.
            all_read: Every file of the workspace could be read, so that a base not seen is missing.
        """
        with self._open:
            if self._buckets:
                self._spill()
                for bucket in self._buckets:
                    bucket.seek(0)
                    rows = np.frombuffer(bucket.read(), IDENTITY)
                    self._check(rows, files, added_by, read, all_read=all_read)
            elif self._parts:
                self._check(np.concatenate(self._parts), files, added_by, read, all_read=all_read)
        self._parts = []
        for number, again in sorted(self._again.items()):
            self._findings.damage("duplicated", files[number].key, "every identity once", str(again))
        for number, count in sorted(self._orphans.items()):
            expected = "an event for every supplement"
            self._findings.damage("missing", files[number].key, expected, f"none for {count} of them")

    def _check(
        self,
        rows: np.ndarray,
        files: Sequence[DataFile],
        added_by: Sequence[int],
        read: Callable[[str], bytes],
        *,
        all_read: bool,
    ) -> None:
        base = rows[~rows["supplement"]]
        base = base[np.lexsort((base["at"], base["hash"]))]
        again = np.flatnonzero(base["hash"][1:] == base["hash"][:-1])
        if again.size:
            suspects = np.unique(base["hash"][again])
            holders = np.unique(base["file"][np.isin(base["hash"], suspects)])
            self._repeats(suspects, holders.tolist(), files, added_by, read)
        if all_read:
            self._bases(rows[rows["supplement"]], base)

    def _repeats(
        self,
        suspects: np.ndarray,
        holders: list[int],
        files: Sequence[DataFile],
        added_by: Sequence[int],
        read: Callable[[str], bytes],
    ) -> None:
        """Read the ids of the files that hold suspected rows, and report the true repeats by file."""
        read_again = (_suspects_in(files[number], number, suspects, read) for number in holders)
        parts = [frame for frame in read_again if frame is not None]
        if not parts:
            return
        frame = pl.concat(parts).with_columns(
            pl.col("file").replace_strict(dict(enumerate(added_by)), return_dtype=pl.Int64).alias("commit")
        )
        frame = frame.sort("dataset", "id", "at", "commit", "file", "row").with_columns(
            *(
                pl.col(name).shift(1).alias(f"{name}_before")
                for name in ("dataset", "id", "at", "file", "commit")
            )
        )
        same = frame.filter(
            (pl.col("dataset") == pl.col("dataset_before")) & (pl.col("id") == pl.col("id_before"))
        )
        near = same.filter(pl.col("at") - pl.col("at_before") <= self._window_us)
        self.beyond += same.height - near.height
        is_later = pl.when(pl.col("commit") >= pl.col("commit_before"))
        later = near.with_columns(
            is_later.then("file").otherwise("file_before").alias("holder"),
            is_later.then("file_before").otherwise("file").alias("other"),
        )
        for (number,), part in later.group_by("holder", maintain_order=True):
            again = self._again[int(str(number))]
            again.count += part.height
            for row in part.head(_TOLD - len(again.told)).to_dicts():
                again.told.append(f"{row['id']!r:.80} (also in {files[row['other']].key})")

    def _bases(self, supplements: np.ndarray, base: np.ndarray) -> None:
        """Look for the event that each supplement adds to: the same identity, within the window."""
        left = np.searchsorted(base["hash"], supplements["hash"], side="left")
        right = np.searchsorted(base["hash"], supplements["hash"], side="right")
        for one, start, end in zip(supplements, left.tolist(), right.tolist(), strict=True):
            if not (np.abs(base["at"][start:end] - one["at"]) <= self._window_us).any():
                self._orphans[int(one["file"])] += 1


def _suspects_in(
    file: DataFile, number: int, suspects: np.ndarray, read: Callable[[str], bytes]
) -> pl.DataFrame | None:
    dataset = file.partition.dataset
    try:
        table = ids_of(read(file.key), file.key, dataset)
    except (ObjectNotFoundError, IntegrityError):
        return None  # it was read before and is reported where it is wrong
    ids = pl.Series(table["id"])
    frame = pl.DataFrame(
        {
            "dataset": pl.Series([dataset]).new_from_index(0, len(ids)),
            "id": ids,
            "at": table["event_time"].cast(pa.int64()).to_numpy(),
            "hash": identity_hashes(ids, dataset),
            "file": pl.Series([number], dtype=pl.Int32).new_from_index(0, len(ids)),
        }
    )
    return frame.with_row_index("row").filter(pl.col("hash").is_in(suspects.tolist()))
