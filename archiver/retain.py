"""Expiry: rows that are older than a rule says are no longer live. Whole UTC days, by the calendar.

A file expires when its day lies before the cutoff, today less the rule's span. Nothing is
deleted here: a commit of the operation `expire` lets the files go, snapshots before it stay
readable, and `collect` deletes when no kept snapshot needs them. A file that a legal hold
covers stays live, also if the hold came while this was at work.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from archiver import clock, layout
from archiver.archive import Archive
from archiver.config import Retention
from archiver.errors import CommitConflictError, ConfigError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import LONGEST_INLINE_LIST, Content, DataFile
from archiver.ledger.snapshot import Snapshot
from archiver.lock import LockReport, extend_locks, lock_committed
from archiver.maintain import after_commits
from archiver.progress import Progress, Silent
from archiver.spans import Span

_TRIES: Final = 10


@dataclass(slots=True)
class Extent:
    """Files that expired, or that a hold kept: how many, how much, of which days."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    oldest: str = ""
    newest: str = ""

    def add(self, file: DataFile) -> None:
        day = file.partition.dt
        self.files += 1
        self.rows += file.rows
        self.bytes += file.bytes
        self.oldest = min(self.oldest or day, day)
        self.newest = max(self.newest, day)

    def to_json(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "rows": self.rows,
            "bytes": self.bytes,
            "oldest": self.oldest,
            "newest": self.newest,
        }


@dataclass(slots=True)
class RetainReport:
    """What expired, or would.

    Attributes:
        expired: By dataset and workspace.
        held: By the name of the legal hold that kept them; a file may be under several.
        commits: That let them go.
        locks: What became of Object Lock.
    """

    dry_run: bool
    expired: dict[tuple[str, str], Extent] = field(default_factory=dict)
    held: dict[str, Extent] = field(default_factory=dict)
    commits: list[int] = field(default_factory=list)
    locks: LockReport = field(default_factory=LockReport)

    def add(self, files: Sequence[DataFile]) -> None:
        for file in files:
            where = file.partition
            self.expired.setdefault((where.dataset, where.workspace), Extent()).add(file)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "retain_report",
            "dry_run": self.dry_run,
            "expired": [
                {"dataset": dataset, "workspace": workspace, **extent.to_json()}
                for (dataset, workspace), extent in sorted(self.expired.items())
            ],
            "held": [{"hold": name, **extent.to_json()} for name, extent in sorted(self.held.items())],
            "commits": self.commits,
            "locks": self.locks.to_json(),
        }


def retain(
    archive: Archive,
    rules: Retention,
    *,
    datasets: Collection[str] = (),
    workspaces: Collection[str] = (),
    dry_run: bool = False,
    every_lock: bool = False,
    standing: Retention | None = None,
    progress: Progress | None = None,
) -> RetainReport:
    """Let expire what is older than its rule says, but for legal holds; then extend Object Lock.

    Each commit lets at most a thousand files go and stands by itself: what was interrupted is
    done by the next call.

    Args:
        datasets, workspaces: Only these; empty is all.
        dry_run: Say what would expire; nothing is written.
        every_lock: Look at the locks of all commits, and not only where one is due.
        standing: The rules that hold for the archive day by day, if `rules` are those of this one
            call for a part of it: by them locks are extended, which nobody can take back. None is
            not known: then all that lives on is locked again.

    Raises:
        ConfigError: No rule, or one that is shorter than the identity window: a delivery that
            comes again would be archived anew.
        CommitConflictError: Overtaken too often; what was committed is in the ledger.
    """
    _check(archive, rules)
    report, telling = RetainReport(dry_run), progress or Silent()
    today = clock.from_us(clock.now_us()).date()
    for _ in range(_TRIES):
        plan = _plan(archive.ledger.refresh(), rules, today, datasets, workspaces)
        report.held = plan.held
        if dry_run:
            report.add(plan.files)
            return report
        telling.start("expiring", sum(file.bytes for file in plan.files))
        try:
            if all(_expire(archive, part, report, telling) for part in _parts(plan.files)):
                break
        finally:
            telling.finish()
    else:
        raise CommitConflictError("the expiry was overtaken by other commits too often", hint="run again")
    # Rules for a part of the archive do not tell when the rest of it expires.
    everything = not datasets and not workspaces
    by = rules if everything else standing or Retention()
    locks = _extend(archive, by, progress, every_lock=every_lock)
    locks.problems = report.locks.problems + locks.problems
    report.locks = locks
    if report.commits:
        after_commits(archive, progress)
    return report


def _extend(archive: Archive, rules: Retention, progress: Progress | None, *, every_lock: bool) -> LockReport:
    holds = archive.ledger.snapshot.holds.values()

    def expires_on(file: DataFile) -> date | None:
        return None if any(one.covers(file) for one in holds) else expiry_of(file, rules)

    return extend_locks(archive, expires_on=expires_on, every_commit=every_lock, progress=progress)


def expiry_of(file: DataFile, rules: Retention) -> date | None:
    """Return the first day on which `file` may expire; None is never."""
    where = file.partition
    span = rules.span_for(where.dataset, where.workspace)
    if span is None:
        return None
    day = date.fromisoformat(where.dt)
    first = span.after(day)
    while first < date.max and span.before(first) <= day:  # months are of unequal length
        first += timedelta(1)
    return first


def _check(archive: Archive, rules: Retention) -> None:
    if rules.is_empty and archive.store.lock_keep is None:
        raise ConfigError(
            "nothing says how long anything is to be kept",
            hint="give --older-than 400d, or write [retention] keep into the configuration",
        )
    window = int(archive.ledger.snapshot.archive["identity_window_days"])
    for span in rules.spans():
        if span.shortest_days < window:
            raise ConfigError(
                f"{span} is shorter than the identity window of {window} days",
                hint="a delivery that comes again within it would be archived a second time: keep at least "
                f"{window}d, or 2mo",
            )


@dataclass(slots=True)
class _Plan:
    files: list[DataFile] = field(default_factory=list)
    held: dict[str, Extent] = field(default_factory=dict)


def _plan(
    head: Snapshot,
    rules: Retention,
    today: date,
    datasets: Collection[str],
    workspaces: Collection[str],
) -> _Plan:
    plan = _Plan()
    for dataset in layout.DATASETS:
        if datasets and dataset not in datasets:
            continue
        for file in _expired(head, dataset, rules, today, workspaces):
            holds = [hold.name for hold in head.holds.values() if hold.covers(file)]
            for name in holds:
                plan.held.setdefault(name, Extent()).add(file)
            if not holds:
                plan.files.append(file)
    return plan


def _expired(
    head: Snapshot, dataset: str, rules: Retention, today: date, workspaces: Collection[str]
) -> Iterator[DataFile]:
    """Yield the live files whose day lies before the cutoff of their rule."""
    own = {name for name in rules.workspaces if not workspaces or name in workspaces}
    for workspace in sorted(own):
        yield from _before(head, dataset, rules.workspaces[workspace], today, [workspace])
    others = set(workspaces) - own
    if others or not workspaces:
        rule = rules.span_for(dataset)
        for file in _before(head, dataset, rule, today, others or None):
            if file.partition.workspace not in own:
                yield file


def _before(
    head: Snapshot, dataset: str, span: Span | None, today: date, workspaces: Collection[str] | None
) -> list[DataFile]:
    if span is None:
        return []
    cutoff = span.before(today)
    until_us = clock.to_us(datetime.combine(cutoff, time(), UTC))
    found = head.files.select(dataset, workspaces=workspaces, until_us=until_us, digests=False)
    return [file for file in found if file.partition.dt < cutoff.isoformat()]


def _parts(files: Sequence[DataFile]) -> Iterator[Sequence[DataFile]]:
    for start in range(0, len(files), LONGEST_INLINE_LIST):
        yield files[start : start + LONGEST_INLINE_LIST]


def _expire(archive: Archive, files: Sequence[DataFile], report: RetainReport, progress: Progress) -> bool:
    """Commit that `files` are no longer live; False means that the plan no longer holds."""
    content = Content(
        operation="expire",
        batch=secrets.token_hex(16),
        attempt=layout.new_attempt(),
        removed=tuple(file.key for file in files),
    )
    outcome = protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
    if not isinstance(outcome, protocol.Committed):
        return False
    report.commits.append(outcome.commit.sequence)
    report.add(files)
    if problem := lock_committed(archive, outcome.commit):
        report.locks.problems.append(problem)
    progress.advance(bytes_done=sum(file.bytes for file in files), rows=sum(file.rows for file in files))
    return True
