"""Object Lock for what counts: set after each commit, extended while it is needed.

Objects are locked one by one, never by a default of the bucket: files of attempts that
died must stay deletable. A lock lasts until the day of the commit plus the configured
`object_lock_keep`. What lives longer is locked for that span again, and again, each time
before the lock lapses: an object's lock ends on `commit day + n * keep`, so that what has to
be done follows from the ledger, and nothing is remembered anywhere.

A lock that could not be set is a problem to report, never a reason to undo a commit: the
next `archiver retain` sets it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from archiver import clock, layout
from archiver.archive import Archive
from archiver.errors import ArchiverError, ConfigError, ObjectNotFoundError
from archiver.ledger.entry import Commit, DataFile
from archiver.progress import Progress, Silent
from archiver.spans import Span

log = logging.getLogger(__name__)

AHEAD: Final = timedelta(days=30)
NEWEST_COMMITS: Final = 100
_THREADS: Final = 16


@dataclass(slots=True)
class LockReport:
    """What became of the locks.

    Attributes:
        asked: Objects whose lock was looked at.
        extended: Those whose lock was set or extended.
        problems: What failed, in words.
    """

    asked: int = 0
    extended: int = 0
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"asked": self.asked, "extended": self.extended, "problems": self.problems}


def lock_committed(archive: Archive, commit: Commit) -> str | None:
    """Lock what `commit` names, and the commit itself, if the archive is to be locked.

    Returns:
        What went wrong, in words; None if all is well or nothing is configured. Raises nothing:
        the commit stands.
    """
    keep = archive.store.lock_keep
    if keep is None:
        return None
    try:
        archive.store.lock(_named(commit), _instant(keep.after(_day(commit.committed_us))))
    except ArchiverError as error:
        problem = f"commit {commit.sequence} stands, but is not locked: {error.message}"
        log.error("%s; `archiver retain` tries again", problem)
        return problem
    return None


def extend_locks(
    archive: Archive,
    *,
    expires_on: Callable[[DataFile], date | None] = lambda _: None,
    every_commit: bool = False,
    progress: Progress | None = None,
) -> LockReport:
    """Lock what lives on and whose lock lapses within 30 days, and what was never locked.

    Looks at the newest hundred commits, and at those whose locks lapse within 30 days or have
    lapsed within the last 30: run it at least monthly. A file that expires before its lock
    ends is left as it is.

    Args:
        expires_on: The first day on which a file may expire; None is never (no rule, or a hold).
        every_commit: Look at all of them: for an archive that was not locked from its beginning,
            a copy, or after a long pause.
    """
    report = LockReport()
    keep, store = archive.store.lock_keep, archive.store
    if keep is None:
        return report
    today = _day(clock.now_us())
    telling = progress or Silent()
    telling.start("looking at locks", None)
    try:
        for commit in _due(archive, keep, today, every=every_commit):
            made, wanted = _day(commit.committed_us), today + AHEAD
            until = _end(keep, made, wanted)
            keys = _needed(archive, commit, _outliving(keep.after(made), until, expires_on))
            report.asked += len(keys)
            try:
                short = _shorter(archive, keys, _instant(wanted))
                report.extended += store.lock(short, _instant(until)) if short else 0
            except ConfigError as error:  # the bucket knows no locks: the same for every object
                report.problems.append(error.message)
                break
            except ArchiverError as error:
                report.problems.append(f"commit {commit.sequence}: {error.message}")
            telling.advance(rows=len(keys))
    finally:
        telling.finish()
    return report


def unlocked(archive: Archive, *, commits: int) -> list[str]:
    """Return the keys of what the newest `commits` commits name and nothing locks now.

    Raises:
        StoreError: The store does not tell.
    """
    if archive.store.lock_keep is None:
        return []
    head, found = archive.ledger.snapshot.sequence, []
    for commit in archive.ledger.since(max(-1, head - commits)):
        keys = _needed(archive, commit, lambda _: True)
        found += _shorter(archive, keys, datetime.now(UTC))
    return found


def _named(commit: Commit) -> list[str]:
    said = commit.content
    named = [one.key for part in (said.added, said.lists, said.quarantined) for one in part]
    return [*named, layout.commit(commit.sequence)]


def _needed(archive: Archive, commit: Commit, lives: Callable[[DataFile], bool]) -> list[str]:
    """Return what `commit` names and the archive still needs: data files only while they live."""
    said = commit.content
    live = archive.ledger.snapshot.files.find([file.key for file in said.added])
    gone = {file.key for file in said.added if file.key not in live or not lives(file)}
    return [key for key in _named(commit) if key not in gone]


def _outliving(
    first: date, until: date, expires_on: Callable[[DataFile], date | None]
) -> Callable[[DataFile], bool]:
    """Say which files need a lock until `until`: any, if it is the first; later ones if they live on."""

    def lives(file: DataFile) -> bool:
        expiry = None if until <= first else expires_on(file)
        return until <= first or expiry is None or expiry > first

    return lives


def _due(archive: Archive, keep: Span, today: date, *, every: bool) -> Iterator[Commit]:
    """Yield the newest commits, and those whose n-th lock ends about now; or all."""
    ledger = archive.ledger
    head = ledger.snapshot
    if every:
        yield from ledger.since(-1)
        return
    sequences = set(range(max(0, head.sequence - NEWEST_COMMITS + 1), head.sequence + 1))
    first = _day(ledger.read(0).committed_us)
    number = 1
    while (newest := _times(keep, number).before(today + AHEAD)) >= first:
        oldest = _times(keep, number).before(today - AHEAD)
        sequences.update(_made_between(archive, oldest, newest))
        number += 1
    for sequence in sorted(sequences):
        yield ledger.read(sequence)


def _made_between(archive: Archive, oldest: date, newest: date) -> range:
    """Return the sequences of the commits of these days."""
    try:
        last = archive.ledger.sequence_at(clock.to_us(_instant(newest + timedelta(1))) - 1)
    except ConfigError:  # the archive is younger
        return range(0)
    try:
        first = archive.ledger.sequence_at(clock.to_us(_instant(oldest)) - 1) + 1
    except ConfigError:
        first = 0
    return range(first, last + 1)


def _shorter(archive: Archive, keys: list[str], until: datetime) -> list[str]:
    """Return those of `keys` that are not locked until `until`."""

    def lasts(key: str) -> bool:
        try:
            ends = archive.store.locked_until(key)
        except ObjectNotFoundError:
            return True  # nothing to lock; that it is gone is for `verify` to say
        return ends is not None and ends >= until

    with ThreadPoolExecutor(_THREADS) as threads:
        return [key for key, enough in zip(keys, threads.map(lasts, keys), strict=True) if not enough]


def _end(keep: Span, made: date, beyond: date) -> date:
    """Return the first of the days `made + n * keep` that is not before `beyond`."""
    number = 1
    while _times(keep, number).after(made) < beyond:
        number += 1
    return _times(keep, number).after(made)


def _times(keep: Span, number: int) -> Span:
    return Span(keep.count * number, keep.unit)


def _day(us: int) -> date:
    return clock.from_us(us).date()


def _instant(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
