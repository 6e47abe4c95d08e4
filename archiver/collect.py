"""Deleting what no commit reaches: files of attempts that died, and of those that were overtaken.

A fence comes before every deletion: a commit that declares the attempt dead, so that a
slow run finds it and stops. After the fence the head is read again, and only what no kept
snapshot reaches is deleted. The grace period is courtesy to slow runs; the fence is the safety.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from archiver import layout
from archiver.archive import Archive
from archiver.errors import CommitConflictError, ConfigError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content
from archiver.ledger.snapshot import Snapshot
from archiver.store.base import ObjectInfo, Store

DEFAULT_GRACE: Final = timedelta(hours=24)
SHORTEST_GRACE: Final = timedelta(hours=1)
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
        temporaries: Half-written files of killed writers that were removed, too.
    """

    dry_run: bool
    fenced: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    deleted_bytes: int = 0
    young: int = 0
    unexplained: list[str] = field(default_factory=list)
    temporaries: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "collect_report",
            "dry_run": self.dry_run,
            "fenced": self.fenced,
            "deleted": self.deleted,
            "deleted_bytes": self.deleted_bytes,
            "young": self.young,
            "unexplained": self.unexplained,
            "temporaries": self.temporaries,
        }


def collect(
    archive: Archive, *, grace: timedelta = DEFAULT_GRACE, force: bool = False, dry_run: bool = False
) -> CollectReport:
    """Fence attempts that have been silent for `grace`, then delete what nothing reaches.

    Args:
        grace: Below one hour only with `force`: a run that is slower than this is
            stopped and must begin anew.
        dry_run: Only say what would be done; no more than a probe is written, which tells
            the store's time.

    Raises:
        ConfigError: The grace is too short.
    """
    if grace < SHORTEST_GRACE and not force:
        raise ConfigError(
            f"a grace of {grace} is shorter than {SHORTEST_GRACE}: a run at work would be stopped",
            hint="give --force if you know that no run is at work",
        )
    report = CollectReport(dry_run)
    head = archive.ledger.refresh()
    garbage = _unreachable(archive, head)
    doomed = _silent(garbage, head, _now(archive.store) - grace) if garbage else set()
    if not dry_run and doomed:
        report.fenced = _fence(archive, doomed)
    elif dry_run:
        report.fenced = sorted(doomed)
    # Read the head again after the fence: what was committed meanwhile is reachable now.
    head = archive.ledger.refresh()
    dead = head.fenced | (doomed if dry_run else set())
    reachable, superseded = head.reachable(), head.files.superseded()
    for attempt, objects in sorted(garbage.items()):
        for info in objects:
            if info.key in reachable:
                continue
            if info.key in superseded or _is_dead(info.key, attempt, head, dead):
                report.deleted.append(info.key)
                report.deleted_bytes += info.bytes
            elif attempt in head.attempts:
                report.unexplained.append(info.key)
            else:
                report.young += 1
    if not dry_run:
        archive.store.delete(report.deleted)
        seconds = max(grace, SHORTEST_GRACE).total_seconds()
        report.temporaries = archive.store.delete_temporaries(older_than_seconds=seconds)
    return report


def _now(store: Store) -> datetime:
    """Return the present time by the store's clock, the one that dated its objects."""
    key = f"{layout.PROBES}collect-{secrets.token_hex(8)}"
    store.put(key, b"")
    try:
        return store.info(key).modified_at
    finally:
        store.delete([key])


def _unreachable(archive: Archive, head: Snapshot) -> dict[str, list[ObjectInfo]]:
    """List what `head` does not reach, by attempt. Objects that are not ours are not looked at."""
    reachable = head.reachable()
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    for place in _PLACES:
        for info in archive.store.list(place):
            origin = layout.origin_of(info.key)
            if origin is not None and info.key not in reachable:
                found[origin.attempt].append(info)
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


def _fence(archive: Archive, doomed: set[str]) -> list[str]:
    """Commit a fence against `doomed`, less those that commit before it does."""

    def less_committed(head: Snapshot, content: Content) -> Content | None:
        left = tuple(one for one in content.fenced if one not in head.attempts and one not in head.fenced)
        return replace(content, fenced=left) if left else None

    content = Content(
        operation="fence",
        batch=secrets.token_hex(16),
        attempt=layout.new_attempt(),
        fenced=tuple(sorted(doomed)),
    )
    outcome = protocol.commit(
        archive.ledger, content, seen=archive.ledger.snapshot.sequence, refit=less_committed
    )
    match outcome:
        case protocol.Committed(commit):
            return list(commit.content.fenced)
        case protocol.PlanAgain():
            return []
    raise CommitConflictError("the fence could not be committed; nothing was deleted", hint="run again")
