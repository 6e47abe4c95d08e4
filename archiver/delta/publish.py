"""Bringing the Delta log up to the head of the ledger, and finding out whether somebody altered it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from archiver import layout
from archiver.archive import Archive
from archiver.delta import checkpoint
from archiver.delta.actions import DATASET, version_of
from archiver.errors import ConfigError, IntegrityError, ObjectNotFoundError, PreconditionFailedError
from archiver.ledger.entry import Commit, DataFile
from archiver.progress import Progress, Silent
from archiver.store.base import Store

_READERS: Final = 16
_AHEAD: Final = 64  # versions read at a time while all of them are compared
_HINT: Final = (
    "other engines may see rows that are not in the archive, or miss some; the archive itself is not "
    "touched: find out who wrote there, then `archiver publish delta --rebuild`"
)


@dataclass(slots=True)
class PublishReport:
    """What was found and done. Versions are sequences of commits.

    Attributes:
        head: The newest version that there should be.
        published: Versions put, or with a check those that are missing.
        altered: Versions whose bytes are not those of their commit; put right by a rebuild.
        strange: Names in the log that nothing of ours wrote or that say what no commit says;
            deleted by a rebuild.
        checkpoint: Version of the checkpoint that was written, if one was.
    """

    head: int
    published: list[int] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    checkpoint: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "publish_report",
            "head": self.head,
            "published": self.published,
            "altered": self.altered,
            "strange": self.strange,
            "checkpoint": self.checkpoint,
        }

    def refuse(self) -> None:
        """Raise if somebody else than the archiver wrote to the log.

        Raises:
            IntegrityError: Somebody did; names the first version or object.
        """
        names = [layout.delta_version(version) for version in self.altered] + self.strange
        if names:
            others = f", and {len(names) - 1} more" if len(names) > 1 else ""
            raise IntegrityError(
                f"{names[0]}: expected what the ledger says, found otherwise{others}", hint=_HINT
            )


def publish(archive: Archive, progress: Progress | None = None) -> PublishReport:
    """Put the Delta versions that are missing behind the newest one, up to the ledger's head.

    Versions are put one after another and never overwritten, by anybody at once: all put the
    same bytes. When this is interrupted, the next call goes on where it stopped.

    Raises:
        ConfigError: The archive's data files are not Parquet: it has no Delta log.
        IntegrityError: A version is there with other bytes than its commit's.
        StoreError: The store failed; versions up to there are published.
    """
    _refuse_lines(archive)
    progress = progress or Silent()
    report = PublishReport(archive.ledger.refresh().sequence)
    newest = newest_version(archive.store, report.head)
    progress.start("publishing the Delta log", None)
    try:
        for commit in archive.ledger.since(max(newest, 0) - 1):
            if commit.sequence == newest:  # is it ours? Somebody else may have come before us
                _refuse_other_bytes(commit, archive.store.get(layout.delta_version(newest)))
                continue
            _put(archive.store, commit)
            report.published.append(commit.sequence)
            progress.advance(rows=1)
        if checkpoint.is_due(archive, newest):
            checkpoint.write(archive)
            report.checkpoint = report.head
    finally:
        progress.finish()
    return report


def _refuse_lines(archive: Archive) -> None:
    if archive.encoding.format != "parquet":
        raise ConfigError(
            f"{archive.store.location}: its data files are {archive.encoding.format}, so it has no Delta log",
            hint="a Delta table is made of Parquet files; `archiver sql` and `archiver export` read this one",
        )


def _put(store: Store, commit: Commit) -> None:
    key = layout.delta_version(commit.sequence)
    try:
        store.put(key, version_of(commit))
    except PreconditionFailedError:
        _refuse_other_bytes(commit, store.get(key))


def _refuse_other_bytes(commit: Commit, found: bytes) -> None:
    if found != version_of(commit):
        key = layout.delta_version(commit.sequence)
        raise IntegrityError(f"{key}: expected what the ledger says, found otherwise", hint=_HINT)


def newest_version(store: Store, head: int) -> int:
    """Return the newest version up to `head` that is published; -1 if none is.

    Versions are published in order, so a gallop downwards from the head and a bisection find
    it: two requests where only the newest commit is missing, some thirty at most.
    """
    missing, there = head + 1, head
    while there >= 0 and not _exists(store, there):
        missing, there = there, max(there - (head + 1 - there), -1)
    while missing - there > 1:
        middle = (there + missing) // 2
        if _exists(store, middle):
            there = middle
        else:
            missing = middle
    return there


def _exists(store: Store, version: int) -> bool:
    try:
        store.info(layout.delta_version(version))
    except ObjectNotFoundError:
        return False
    return True


def check(archive: Archive, progress: Progress | None = None) -> PublishReport:
    """Derive every version and checkpoint again and compare; nothing is written.

    Raises:
        ConfigError: The archive's data files are not Parquet: it has no Delta log.
    """
    _refuse_lines(archive)
    # Listed before the head is read: a version behind that head was there before its commit.
    listed = [info.key for info in archive.store.list(layout.DELTA_LOG)]
    report = PublishReport(archive.ledger.refresh().sequence)
    ours = {layout.DELTA_POINTER, *map(layout.delta_version, range(report.head + 1))}
    others = {key for key in listed if key not in ours}
    progress = progress or Silent()
    progress.start("comparing the Delta log with the ledger", None)
    try:
        right = _compare(archive, report, others, progress)
    finally:
        progress.finish()
    report.strange = sorted(others - right)
    pointer = checkpoint.read_pointer(archive.store) if layout.DELTA_POINTER in listed else None
    if layout.DELTA_POINTER in listed and (
        pointer is None or layout.delta_checkpoint(pointer.version) not in right
    ):
        report.strange.append(layout.DELTA_POINTER)
    return report


def rebuild(archive: Archive, progress: Progress | None = None) -> PublishReport:
    """Make the Delta log what the ledger says, whatever is there now.

    Versions that differ are overwritten, what nothing of ours wrote is deleted, and one
    checkpoint is made of the newest version. Versions that are right are left alone.

    Raises:
        ConfigError: The archive's data files are not Parquet: it has no Delta log.
        StoreError: The store failed; run again.
    """
    report = check(archive, progress)
    store = archive.store
    checkpoints = [info.key for info in store.list(layout.DELTA_LOG) if info.key.endswith(".parquet")]
    # Hints and caches first: a reader that comes now must not start from one that is wrong.
    store.delete([layout.DELTA_POINTER])
    store.delete({*checkpoints, *report.strange})
    for sequence in sorted(report.published + report.altered):
        commit = archive.ledger.read(sequence)
        store.put(layout.delta_version(sequence), version_of(commit), mode="overwrite")
    checkpoint.write(archive)
    report.checkpoint = report.head
    return report


def _compare(archive: Archive, report: PublishReport, others: set[str], progress: Progress) -> set[str]:
    """Compare every version with its commit, and each checkpoint with the files that are live there.

    Returns:
        The keys of the checkpoints that are right.
    """
    right: set[str] = set()
    live: dict[str, DataFile] = {}
    first: Commit | None = None
    for commit, found in _both(archive):
        first = first or commit
        if found is None:
            report.published.append(commit.sequence)
        elif found != version_of(commit):
            report.altered.append(commit.sequence)
        for gone in commit.content.removed:
            live.pop(gone, None)
        live.update((file.key, file) for file in commit.content.added if file.partition.dataset == DATASET)
        key = layout.delta_checkpoint(commit.sequence)
        if key in others and checkpoint.says(archive.store.get(key), first, live.values()):
            right.add(key)
        progress.advance(rows=1)
    return right


def _both(archive: Archive) -> Iterator[tuple[Commit, bytes | None]]:
    """Yield every commit with the bytes of its version, if that is there."""
    ledger, head = archive.ledger, archive.ledger.snapshot.sequence

    def read(sequence: int) -> tuple[Commit, bytes | None]:
        try:
            found = archive.store.get(layout.delta_version(sequence))
        except ObjectNotFoundError:
            found = None
        return ledger.read(sequence), found

    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, head + 1, _AHEAD):
            yield from readers.map(read, range(start, min(start + _AHEAD, head + 1)))
