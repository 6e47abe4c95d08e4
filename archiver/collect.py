"""Deleting what no commit reaches: files of attempts that died, and of those that were overtaken.

A fence comes before every deletion: a commit that declares the attempt dead, so that a
slow run finds it and stops. After the fence the head is read again, and only what no kept
snapshot reaches is deleted. The grace period is courtesy to slow runs; the fence is the safety.

Files that compaction or expiry removed stay until no kept snapshot needs them. Before they
go, the same commit raises `oldest_readable`: no older snapshot may be asked for any more.

What may go is found out with a checkpoint's help, and then held against the commits alone.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from archiver import clock, layout
from archiver.archive import Archive
from archiver.confirm import confirm
from archiver.errors import CommitConflictError, ConfigError, PermissionDeniedError
from archiver.index import manifest as index_manifest
from archiver.ledger import checkpoint
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile, Hold
from archiver.ledger.snapshot import Snapshot
from archiver.progress import Progress, Silent
from archiver.store.base import Deleted, ObjectInfo, Store

log = logging.getLogger(__name__)

DEFAULT_GRACE: Final = timedelta(hours=24)
SHORTEST_GRACE: Final = timedelta(hours=1)
DEFAULT_KEEP: Final = timedelta(days=7)
_AT_ONCE: Final = 5_000
_TRIES: Final = 10
_PLACES: Final = (*(f"{dataset}/" for dataset in layout.DATASETS), layout.QUARANTINE, layout.LISTS)


@dataclass(slots=True)
class CollectReport:
    """What was, or would be, deleted.

    Attributes:
        fenced: Attempts declared dead by this call.
        deleted: Objects deleted (or, of a dry run, that would be).
        young: Objects of attempts that may still be at work; left alone.
        unexplained: Objects with a committed attempt's name that no commit names; left alone,
            for `verify` to report.
        superseded: How many of `deleted` are files that compaction or expiry had removed.
        held: Files that expired and that a hold in force covers; left alone, and so is every
            snapshot since the first of them expired.
        oldest_readable: The oldest commit that may be asked for afterwards.
        caches: Objects of caches that were replaced and deleted.
        temporaries: Half-written files of killed writers and their probes of the store; removed, too.
        hidden: Objects that no listing shows any more, while the bucket keeps their versions.
        kept: What the store does not let go, with why: Object Lock, a legal hold of the store.
    """

    dry_run: bool
    fenced: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    deleted_bytes: int = 0
    young: int = 0
    unexplained: list[str] = field(default_factory=list)
    superseded: int = 0
    held: list[str] = field(default_factory=list)
    oldest_readable: int = 0
    caches: int = 0
    temporaries: int = 0
    hidden: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def take_note(self, keys: Sequence[str], gone: Deleted, sizes: Mapping[str, int]) -> None:
        """Note what the store says became of some keys that were to be deleted."""
        self.hidden += gone.hidden
        self.kept |= dict(gone.kept)
        still_there = {*gone.hidden, *dict(gone.kept)}
        deleted = [key for key in keys if key not in still_there]
        self.deleted += deleted
        self.deleted_bytes += sum(sizes[key] for key in deleted)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "collect_report",
            "dry_run": self.dry_run,
            "fenced": self.fenced,
            "deleted": self.deleted,
            "deleted_bytes": self.deleted_bytes,
            "young": self.young,
            "unexplained": self.unexplained,
            "superseded": self.superseded,
            "held": self.held,
            "oldest_readable": self.oldest_readable,
            "caches": self.caches,
            "temporaries": self.temporaries,
            "hidden": self.hidden,
            "kept": self.kept,
        }


def collect(
    archive: Archive,
    *,
    grace: timedelta = DEFAULT_GRACE,
    keep_snapshots: timedelta = DEFAULT_KEEP,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CollectReport:
    """Fence attempts that have been silent for `grace`, then delete what nothing reaches.

    Args:
        grace: Below one hour only with `force`: a run that is slower than this is
            stopped and must begin anew.
        keep_snapshots: For how long a snapshot can be asked for after another took its place.
            Below one hour only with `force`: runs and queries at work may miss files.
        dry_run: Only say what would be done; no more than a probe is written, which tells
            the store's time.

    Raises:
        ConfigError: The grace is too short, or snapshots are kept too shortly.
        CommitConflictError: Others came first too often; nothing was deleted.
        IntegrityError: By the commits' word something would go that must stay; nothing was deleted.
    """
    _refuse_haste(grace, keep_snapshots, force=force)
    report, telling = CollectReport(dry_run), progress or Silent()
    for _ in range(_TRIES):
        head = archive.ledger.refresh()
        oldest = _oldest_kept(archive, head, keep_snapshots)
        garbage = _unreachable(archive, head, oldest, telling)
        superseded = head.files.superseded()
        raises = any(superseded.get(one.key, 0) > head.oldest_readable for one in _all(garbage))
        doomed = _silent(garbage, head, _now(archive.store) - grace) if garbage else set()
        fenced: list[str] | None = sorted(doomed)
        if not dry_run and (doomed or raises):
            fenced = _fence(archive, doomed, oldest if raises else 0, holds=dict(head.holds))
        if fenced is not None:
            report.fenced = fenced
            break
    else:
        raise CommitConflictError("holds came and went too often; nothing was deleted", hint="run again")
    # Read the head again after the fence: what was committed meanwhile is reachable now.
    head = archive.ledger.refresh()
    dead = head.fenced | (doomed if dry_run else set())
    report.oldest_readable = oldest if dry_run and raises else head.oldest_readable
    reach = _Reach(head, report.oldest_readable)
    needed = reach.of([one.key for one in _all(garbage)])
    held = _held(archive, head, reach.superseded)
    explained = _Explained(archive, head)
    for attempt, objects in sorted(garbage.items()):
        for info in objects:
            key = info.key
            if key in needed:
                continue
            let_go = key in reach.superseded or explained.was_superseded(key)
            if key in held or (let_go and explained.may_be_held(key, reach.superseded)):
                report.held.append(key)
            elif let_go or _is_dead(key, attempt, head, dead):
                report.deleted.append(key)
                report.deleted_bytes += info.bytes
                report.superseded += let_go
            elif attempt in head.attempts:
                report.unexplained.append(key)
            else:
                report.young += 1
    report.held = sorted(held.keys() | set(report.held))
    if not dry_run:
        confirm(archive.ledger, report.deleted, telling)
        _delete(archive, report, {one.key: one.bytes for one in _all(garbage)}, reach, explained, telling)
        _drop_caches(archive.store, grace, report)
        seconds = max(grace, SHORTEST_GRACE).total_seconds()
        report.temporaries = archive.store.delete_temporaries(older_than_seconds=seconds)
        report.temporaries += _drop_probes(archive.store, seconds)
    return report


def _delete(
    archive: Archive,
    report: CollectReport,
    sizes: Mapping[str, int],
    reach: _Reach,
    explained: _Explained,
    progress: Progress,
) -> None:
    """Delete what was found, some thousand at a time; before each, look for holds that came meanwhile."""
    wanted, report.deleted, report.deleted_bytes = report.deleted, [], 0
    holds = dict(archive.ledger.snapshot.holds)
    progress.start("deleting", sum(sizes[key] for key in wanted))
    try:
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            head = archive.ledger.refresh()
            if head.holds != holds:
                removed = {key: reach.superseded[key] for key in part if key in reach.superseded}
                held = set(_held(archive, head, removed))
                held |= {key for key in part if explained.may_be_held(key, reach.superseded)}
                report.held = sorted(held.union(report.held))
                report.superseded -= len(held)
                part = [key for key in part if key not in held]
            report.take_note(part, archive.store.delete(part), sizes)
            progress.advance(bytes_done=sum(sizes[key] for key in part), rows=len(part))
    finally:
        progress.finish()


def _drop_caches(store: Store, grace: timedelta, report: CollectReport) -> None:
    """Delete what later objects of caches took the place of; nothing depends on them."""
    replaced = index_manifest.garbage(store, before=lambda: _now(store) - grace)
    replaced += checkpoint.garbage(store, before=lambda: _now(store) - grace)
    try:
        store.delete([info.key for info in replaced])
    except PermissionDeniedError as error:
        log.warning("replaced caches stay: %s", error.message)
    else:
        report.caches = len(replaced)


def _drop_probes(store: Store, older_than_seconds: float) -> int:
    """Delete what was written to try the store, by somebody who was killed before the end of it."""
    probes = list(store.list(layout.PROBES))
    if not probes:
        return 0
    limit = _now(store) - timedelta(seconds=older_than_seconds)  # a younger one may still be needed
    old = [info.key for info in probes if info.modified_at <= limit]
    try:
        return len(old) - len(store.delete(old).kept)
    except PermissionDeniedError as error:
        log.warning("old probes stay: %s", error.message)
        return 0


def _refuse_haste(grace: timedelta, keep_snapshots: timedelta, *, force: bool) -> None:
    if grace < SHORTEST_GRACE and not force:
        raise ConfigError(
            f"a grace of {grace} is shorter than {SHORTEST_GRACE}: a run at work would be stopped",
            hint="give --force if you know that no run is at work",
        )
    if keep_snapshots < SHORTEST_GRACE and not force:
        raise ConfigError(
            f"snapshots kept for {keep_snapshots}, shorter than {SHORTEST_GRACE}: "
            "runs and queries at work would miss files",
            hint="give --force if you know that none is at work",
        )


def _oldest_kept(archive: Archive, head: Snapshot, keep_snapshots: timedelta) -> int:
    """Return the oldest commit whose snapshot is kept: the newest one at that time, or an older one.

    A snapshot in which a file lived that expired, and that a hold now covers, is kept, too:
    so the file can still be asked for.
    """
    try:
        oldest = archive.ledger.sequence_at(clock.now_us() - keep_snapshots // timedelta(microseconds=1))
    except ConfigError:  # the archive is younger
        return head.oldest_readable
    removed = {key: by for key, by in head.files.superseded().items() if head.oldest_readable < by <= oldest}
    held = _held(archive, head, removed)
    return max(head.oldest_readable, min([oldest, *(by - 1 for by in held.values())]))


def _held(archive: Archive, head: Snapshot, removed: Mapping[str, int]) -> dict[str, int]:
    """Return those of the `removed` files that expired and that a hold in force covers."""
    if not head.holds or not removed:
        return {}
    operations: dict[int, str] = {}
    held: dict[str, int] = {}
    places = {place for key in removed if (place := layout.partition_of(key)) is not None}
    for entry in head.files.entries(places):
        by = removed.get(entry.file.key)
        if by is None or not any(hold.covers(entry.file) for hold in head.holds.values()):
            continue
        if by not in operations:
            operations[by] = archive.ledger.read(by).content.operation
        if operations[by] != "compact":  # of those the rows are in another file
            held[entry.file.key] = by
    return held


def _now(store: Store) -> datetime:
    """Return the present time by the store's clock, the one that dated its objects."""
    key = f"{layout.PROBES}collect-{secrets.token_hex(8)}"
    store.put(key, b"")
    try:
        return store.info(key).modified_at
    finally:
        with contextlib.suppress(PermissionDeniedError):  # it stays, and means nothing
            store.delete([key])


class _Reach:
    """What one snapshot needs, and the kept ones before it; asked for many keys at a time.

    Attributes:
        superseded: Files that are no longer live, with the commit that removed each.
    """

    def __init__(self, head: Snapshot, oldest: int) -> None:
        self.superseded = head.files.superseded()
        self._files = head.files
        self._oldest = oldest
        self._named = head.lists | {file.key for _, file in head.quarantine}

    def of(self, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that are needed."""
        kept = {key for key in keys if self.superseded.get(key, -1) > self._oldest}
        return kept | self._files.find(keys).keys() | self._named.intersection(keys)


class _Explained:
    """Files of committed attempts that the folded ledger has forgotten: their commits still name them.

    A checkpoint may leave out what was removed at or before `oldest_readable`.
    """

    def __init__(self, archive: Archive, head: Snapshot) -> None:
        self._archive = archive
        self._head = head
        self._added: dict[int, dict[str, DataFile]] = {}

    def was_superseded(self, key: str) -> bool:
        """Say whether a commit added `key`. Asked only of what is not live."""
        return self._file(key) is not None

    def may_be_held(self, key: str, known: Mapping[str, int]) -> bool:
        """Say whether a hold covers a file of which it is not known any more what removed it."""
        if key in known or not self._head.holds:
            return False
        file = self._file(key)
        return file is not None and any(hold.covers(file) for hold in self._head.holds.values())

    def _file(self, key: str) -> DataFile | None:
        origin = layout.origin_of(key)
        if origin is None or origin.attempt not in self._head.attempts or layout.partition_of(key) is None:
            return None
        sequence = self._head.batches.get(origin.batch)
        if sequence is None:
            return None
        if sequence not in self._added:
            said = self._archive.ledger.read(sequence).content
            # Of one commit at a time: there may be very many files.
            self._added = {sequence: {file.key: file for file in said.added}}
        return self._added[sequence].get(key)


def _all(garbage: Mapping[str, list[ObjectInfo]]) -> Iterator[ObjectInfo]:
    return (info for objects in garbage.values() for info in objects)


def _unreachable(
    archive: Archive, head: Snapshot, oldest: int, progress: Progress
) -> dict[str, list[ObjectInfo]]:
    """List what `head` does not reach, by attempt. Objects that are not ours are not looked at."""
    reach = _Reach(head, oldest)
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    progress.start("listing objects", None)
    try:
        for place in _PLACES:
            listing = archive.store.list(place)
            while part := list(islice(listing, _AT_ONCE)):
                needed = reach.of([info.key for info in part])
                for info in part:
                    origin = layout.origin_of(info.key)
                    if origin is not None and info.key not in needed:
                        found[origin.attempt].append(info)
                progress.advance(rows=len(part))
    finally:
        progress.finish()
    return found


def _silent(garbage: dict[str, list[ObjectInfo]], head: Snapshot, before: datetime) -> set[str]:
    """Return the attempts of which nothing is known and nothing has been heard behind `before`."""
    return {
        attempt
        for attempt, objects in garbage.items()
        if attempt not in head.attempts
        and attempt not in head.fenced
        and max(info.modified_at for info in objects) <= before
    }


def _is_dead(key: str, attempt: str, head: Snapshot, fenced: Iterable[str]) -> bool:
    """Say whether `attempt` can never commit: fenced, or its batch was committed by another."""
    if attempt in head.attempts:
        return False
    origin = layout.origin_of(key)
    return attempt in fenced or (origin is not None and origin.batch in head.batches)


def _fence(archive: Archive, doomed: set[str], oldest: int, *, holds: Mapping[str, Hold]) -> list[str] | None:
    """Commit a fence against `doomed`, less those that commit before it does.

    The same commit raises `oldest_readable` to `oldest`, if it is not there yet.

    Args:
        holds: Those in force when `oldest` was found out.

    Returns:
        None if others are in force by now, and `oldest` may be too high: nothing was committed.
    """
    outdated = False

    def less_committed(head: Snapshot, content: Content) -> Content | None:
        nonlocal outdated
        outdated = oldest > head.oldest_readable and head.holds != holds
        if outdated:
            return None
        left = tuple(one for one in content.fenced if one not in head.attempts and one not in head.fenced)
        return replace(content, fenced=left) if left or oldest > head.oldest_readable else None

    content = Content(
        operation="fence",
        batch=secrets.token_hex(16),
        attempt=layout.new_attempt(),
        fenced=tuple(sorted(doomed)),
    )
    outcome = protocol.commit(
        archive.ledger,
        content,
        seen=archive.ledger.snapshot.sequence,
        refit=less_committed,
        oldest_readable=oldest,
    )
    match outcome:
        case protocol.Committed(commit):
            return list(commit.content.fenced)
        case protocol.PlanAgain():
            return None if outdated else []
    raise CommitConflictError("the fence could not be committed; nothing was deleted", hint="run again")
