"""What one snapshot of an archive holds, and which of its files a statement can want.

The ledger's list of files, with the workspace and the times of each, is asked first, and of
ids the identity index, before any data file is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from archiver import columns
from archiver.archive import IDENTITY_WINDOW_DAYS, Archive
from archiver.errors import ArchiverError
from archiver.index.known import Background, KnownIds
from archiver.ledger.entry import DataFile
from archiver.ledger.ledger import Ledger
from archiver.ledger.snapshot import Snapshot
from archiver.query.narrowing import ANYTHING, Narrow, Wanted, hull
from archiver.store.base import Store

log = logging.getLogger(__name__)

# Columns that a supplement can fill. Not where a row lies, how it came and the bytes that it is;
# nor what every valid event has, for a supplement does not contradict it.
SUPPLEMENTED: Final = frozenset(columns.SCHEMAS["events"].names) - (
    {"workspace_id", "id", "shape", "event_time", "received_at", "source", "ordinal", "body", "origin"}
    | {"event_type", "action", "actor_id"}
)
_FEW_FILES: Final = 8  # so many are looked at sooner than the identity index is
_MOST_IDS: Final = 64
_SLOW_FILES: Final = 20_000  # so many known to one statement take seconds
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Pinned:
    """What is live in one snapshot. Does not move when the archive's ledger does.

    Attributes:
        narrow: What all statements are confined to, as far as whole files go.
    """

    store: Store
    ledger: Ledger
    sequence: int
    window_us: int
    narrow: Narrow
    _known: KnownIds
    _asking: Lock = field(default_factory=Lock)
    _held: dict[frozenset[str], list[DataFile] | None] = field(default_factory=dict)  # of the last ids

    @staticmethod
    def of(archive: Archive, narrow: Narrow | None = None) -> Pinned:
        """Pin the snapshot that the archive's ledger is at."""
        now = archive.ledger.snapshot
        days = now.archive.get("identity_window_days", IDENTITY_WINDOW_DAYS)
        # Its own, for it asks at its own snapshot, and from any thread.
        known = KnownIds(archive.ledger)
        return Pinned(archive.store, archive.ledger, now.sequence, days * _DAY_US, narrow or ANYTHING, known)

    def snapshot(self) -> Snapshot:
        """Return the snapshot, wherever the archive's ledger is by now."""
        now = self.ledger.snapshot
        return now if now.sequence == self.sequence else self.ledger.at(self.sequence)

    def select(self, dataset: str, narrow: Narrow = ANYTHING) -> tuple[DataFile, ...]:
        """Return the live files of a dataset that can hold such rows; without their digests.

        Where they are more than a few and ids are asked for, the identity index says which. It
        is a cache: what it left out is not found.
        """
        both = self.narrow.both(narrow)
        if both.is_nothing:
            return ()
        if dataset == "supplements":  # one may lie at another time than what it adds to
            both = both.widened(2 * self.window_us)
        now = self.snapshot()
        ids = both.ids if both.ids is not None and len(both.ids) <= _MOST_IDS else None
        if ids is not None and both.workspaces is None and len(now.files) > _FEW_FILES:
            # Without a workspace they may be millions: the index first.
            held = self._holders_anywhere(ids, now)
            if held is not None:
                return tuple(file for file in held if _is_wanted(file, dataset, both))
        found = now.files.select(
            dataset,
            workspaces=both.workspaces,
            since_us=both.since_us,
            until_us=both.until_us,
            digests=False,
        )
        if ids is not None and both.workspaces is not None and len(found) > _FEW_FILES:
            held = self._holders(ids, both.workspaces, now)
            if held is not None:
                keys = {file.key for file in held}
                found = [file for file in found if file.key in keys]
        return tuple(found)

    def _holders_anywhere(self, ids: frozenset[str], snapshot: Snapshot) -> list[DataFile] | None:
        """As `_holders`, for all workspaces; events and what supplements them are asked for one by one."""
        if ids not in self._held:
            held = self._holders(ids, {name for _, name in snapshot.files.volumes()}, snapshot)
            self._held.clear()
            self._held[ids] = held
            return held
        return self._held.get(ids)

    def _holders(
        self, ids: Collection[str], workspaces: Collection[str], snapshot: Snapshot
    ) -> list[DataFile] | None:
        """Return the files in which the identity index knows the ids may be; None if it cannot tell."""
        try:
            with self._asking:
                return self._known.holders(ids, workspaces, Background(snapshot))
        except ArchiverError as error:
            log.warning("the identity index is left aside: %s", error.message)
            return None

    def files_for(self, wanted: Wanted) -> dict[str, tuple[DataFile, ...]]:
        """Return the files of each dataset that a statement can want."""
        if wanted.views is None:
            found = {dataset: self.select(dataset) for dataset in columns.SCHEMAS}
        else:
            narrow, read = dict(wanted.narrow), set(wanted.views)
            if "events" in read and (wanted.columns is None or wanted.columns & SUPPLEMENTED):
                of_events = narrow.get("events", ANYTHING)
                both = hull((narrow.get("supplements", ANYTHING), of_events))
                narrow["supplements"] = both if "supplements" in read else of_events
                read.add("supplements")
            found = {
                dataset: self.select(dataset, narrow.get(dataset, ANYTHING)) if dataset in read else ()
                for dataset in columns.SCHEMAS
            }
        if (
            "events" in (wanted.views or ())
            and not found["events"]
            and "supplements" not in (wanted.views or ())
        ):
            found["supplements"] = ()
        if max(map(len, found.values())) > _SLOW_FILES:
            log.warning(
                "this statement may read %d files: name workspace and dt or event_time in its WHERE, "
                "compared with constants, or give --workspace, --since, --until",
                sum(map(len, found.values())),
            )
        return found


def _is_wanted(file: DataFile, dataset: str, narrow: Narrow) -> bool:
    where = file.partition
    return (
        where.dataset == dataset
        and (narrow.workspaces is None or where.workspace in narrow.workspaces)
        and (narrow.since_us is None or file.max_us >= narrow.since_us)
        and (narrow.until_us is None or file.min_us < narrow.until_us)
    )
