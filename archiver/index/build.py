"""Bringing the index up to the head, or making it anew: from commits, memory and id columns.

Nothing depends on it: where it fails, ids are looked for in the data files. Two processes may
do it at once: each writes a manifest that is whole, and the newest is used.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from archiver.index import manifest, merge
from archiver.index.manifest import Manifest
from archiver.index.months import between, bounds, month_of, month_of_key
from archiver.index.part import IndexDamagedError, PartEntry
from archiver.index.recent import Recent
from archiver.ledger.entry import DataFile
from archiver.ledger.files import Files
from archiver.ledger.ledger import Ledger
from archiver.progress import Progress

log = logging.getLogger(__name__)

CHUNK_IDS: Final = 2_000_000  # hashed and sorted in memory at once
_CHUNK_FILES: Final = 4_096
_FEW_FILES: Final = 50_000
_LONG_US: Final = 100 * 366 * 86_400_000_000
_COMMITS_BEHIND: Final = 32  # beyond, a manifest saves reading them again
_WORTH_FILES: Final = 32  # to read so many costs more than to write an object and a manifest


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What bringing the index up to date did, or would do.

    Attributes:
        sequence: Up to which commit everything is indexed now.
        files, ids: Data files whose ids were indexed, and how many ids those are.
        parts: How many objects the index has now.
        bytes: Their sizes together.
    """

    sequence: int
    files: int
    ids: int
    parts: int
    bytes: int
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "index_report",
            "dry_run": self.dry_run,
            "sequence": self.sequence,
            "files": self.files,
            "ids": self.ids,
            "objects": self.parts,
            "bytes": self.bytes,
        }


class Update:
    """One go at bringing the index up to the commit that the ledger was followed to.

    Args:
        recent: What this process has in memory; ids that are not there are read.
        damaged: Months to be made anew.
        anew: Leave what is there aside altogether.
        before: The manifest to begin with; None looks for the newest.
    """

    def __init__(
        self,
        ledger: Ledger,
        recent: Recent,
        *,
        damaged: Collection[str] = (),
        anew: bool = False,
        before: Manifest | None = None,
    ) -> None:
        self._store = ledger.store
        self._recent = recent
        self._head = ledger.snapshot
        self._sequence, self._digest = ledger.snapshot.sequence, ledger.snapshot.digest
        if before is None and not anew:
            before = manifest.newest(ledger, up_to=self._sequence)
        self.before = before
        self._parts: dict[str, list[PartEntry]] = defaultdict(list)
        for part in self.before.parts if self.before is not None else ():
            if part.month not in damaged:
                self._parts[part.month].append(part)
        self._added: dict[str, list[DataFile]] = defaultdict(list)
        self._whole = set(damaged) if self.before is not None else _months(self._head.files)
        self._shrunk: set[str] = set()
        if self.before is not None:
            self._find_added(ledger, self.before.sequence)
        self._files = self._ids = 0

    def report(self) -> IndexReport:
        """Return what was done."""
        parts = [part for month in self._parts.values() for part in month]
        size = sum(part.bytes for part in parts)
        return IndexReport(self._sequence, self._files, self._ids, len(parts), size)

    def forecast(self) -> IndexReport:
        """Return which files would be read, and the index as it is."""
        for month in self._months():
            for file in self._files_of(month):
                self._files, self._ids = self._files + 1, self._ids + file.rows
        return replace(self.report(), dry_run=True)

    def is_due(self, *, lazily: bool = False) -> bool:
        """Say whether there is anything to be done; `lazily`, whether it is worth its requests now."""
        if self.before is None:
            return not lazily or len(self._head.files) > _WORTH_FILES
        if self._whole or self._sequence - self.before.sequence > _COMMITS_BEHIND:
            return True
        added = sum(len(files) for files in self._added.values())
        return added > _WORTH_FILES if lazily else bool(added or self._shrunk)

    def run(self, progress: Progress) -> Manifest:
        """Write the new parts, merge what is due, and write the manifest.

        Raises:
            FileVanishedError: A file of the snapshot is gone: the head has moved far on.
            IntegrityError: A data file cannot be read.
            StoreError: The store refused or failed; the index is as it was.
        """
        progress.start("indexing", None)
        try:
            for month in self._months():
                self._month(month, progress)
        finally:
            progress.finish()
        parts = tuple(part for month in sorted(self._parts) for part in self._parts[month])
        return manifest.put(self._store, self._sequence, self._digest, parts)

    def _months(self) -> list[str]:
        return sorted(self._added.keys() | self._whole | self._shrunk)

    def _files_of(self, month: str) -> list[DataFile]:
        """Return the live files of a month whose ids are to be indexed."""
        if month not in self._whole:
            return self._added.get(month, [])
        since_us, until_us = bounds(month)
        return self._head.files.select(since_us=since_us, until_us=until_us)

    def _month(self, month: str, progress: Progress) -> None:
        self._index(month, progress)
        try:
            self._merge(month)
        except IndexDamagedError as error:
            log.warning("%s; the index of %s is made anew", error.message, month)
            self._parts[month] = []
            self._whole.add(month)
            self._index(month, progress)
            self._merge(month)

    def _index(self, month: str, progress: Progress) -> None:
        for chunk in in_chunks(self._files_of(month)):
            entries = self._recent.gather(chunk)
            self._parts[month] += merge.write(self._store, month, entries, [file.key for file in chunk])
            self._files, self._ids = self._files + len(chunk), self._ids + len(entries.hashes)
            progress.advance(bytes_done=sum(file.bytes for file in chunk), rows=len(entries.hashes))

    def _merge(self, month: str) -> None:
        """Merge runs of one size, and those of which most is dead, until nothing more is due."""
        if month in self._shrunk:
            self._replace(month, merge.stale(self._store, self._parts[month], self._is_live))
        while chosen := merge.due(self._parts[month]):
            self._replace(month, chosen)

    def _replace(self, month: str, chosen: list[PartEntry]) -> None:
        if chosen:
            made = merge.merge(self._store, month, chosen, self._is_live)
            self._parts[month] = [part for part in self._parts[month] if part not in chosen] + made

    def _is_live(self, keys: Collection[str]) -> Collection[str]:
        return self._head.files.find(keys).keys()

    def _find_added(self, ledger: Ledger, sequence: int) -> None:
        """Note the live files that commits behind `sequence` added, and the months from which files went."""
        added: dict[str, DataFile] = {}
        for commit in ledger.since(sequence):
            for key in commit.content.removed:
                added.pop(key, None)
                self._shrunk.add(month_of_key(key))
            added.update((file.key, file) for file in commit.content.added)
        for file in added.values():
            if month_of(file) not in self._whole:
                self._added[month_of(file)].append(file)


def _months(files: Files) -> set[str]:
    """Return the months that hold rows, and perhaps some between them."""
    if len(files) <= _FEW_FILES:
        return {month_of(file) for file in files.select()}
    found: set[str] = set()
    for (dataset, workspace), volume in files.volumes().items():
        if volume.min_us is None or volume.max_us is None:
            continue
        if volume.max_us - volume.min_us < _LONG_US:
            found.update(between(volume.min_us, volume.max_us))
        else:  # somebody's clock was wrong by centuries: between its files lie many months without any
            of_one = files.select(dataset, workspaces={workspace}, digests=False)
            found.update(month_of(file) for file in of_one)
    return found


def in_chunks(files: Iterable[DataFile]) -> Iterator[list[DataFile]]:
    """Yield files some at a time, with about as many ids as are held in memory at once."""
    chunk: list[DataFile] = []
    ids = 0
    for file in files:
        if chunk and (ids + file.rows > CHUNK_IDS or len(chunk) >= _CHUNK_FILES):
            yield chunk
            chunk, ids = [], 0
        chunk.append(file)
        ids += file.rows
    if chunk:
        yield chunk
