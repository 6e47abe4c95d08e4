"""Legal holds: no row that one covers may expire, from the commit that sets it until one releases it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from archiver import clock, layout
from archiver.archive import Archive
from archiver.errors import CommitConflictError, ConfigError, ObjectNotFoundError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, Hold
from archiver.ledger.snapshot import Snapshot
from archiver.lock import lock_committed
from archiver.maintain import after_commits
from archiver.progress import Progress, Silent

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_LONGEST_REASON: Final = 2_000
_Fit = Callable[[Snapshot, Content], Content | None]


@dataclass(slots=True)
class HoldReport:
    """What a call did about one hold.

    Attributes:
        hold: As it is now said to be.
        commit: That says so; None if it was so already.
        replaced: What the name covered before, if it was another cover.
        covered_files, covered_rows: Live ones that it covers now: none may mean a mistyped workspace.
        expired_files, expired_rows: What the hold covers and came too late for.
        still_there: How many of those files lie in the store yet.
        readable_as_of: The newest commit before all of that expired, if it may still be asked for.
        problems: Locks that could not be set, in words.
    """

    hold: Hold
    commit: int | None = None
    replaced: Hold | None = None
    covered_files: int = 0
    covered_rows: int = 0
    expired_files: int = 0
    expired_rows: int = 0
    still_there: int = 0
    readable_as_of: int | None = None
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "hold_report",
            "hold": self.hold.to_json(),
            "commit": self.commit,
            "replaced": None if self.replaced is None else self.replaced.to_json(),
            "covered_files": self.covered_files,
            "covered_rows": self.covered_rows,
            "expired_files": self.expired_files,
            "expired_rows": self.expired_rows,
            "still_there": self.still_there,
            "readable_as_of": self.readable_as_of,
            "problems": self.problems,
        }


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """A commit that set, replaced or released a hold; time in microseconds since 1970."""

    commit: int
    committed_us: int
    hold: Hold

    def to_json(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "committed_at": clock.to_text(self.committed_us),
            **self.hold.to_json(),
        }


def set_hold(archive: Archive, hold: Hold, *, replace_cover: bool = False) -> HoldReport:
    """Set a hold, and say what it came too late for. From its commit on nothing that it covers expires.

    Args:
        replace_cover: A hold of that name may be in force and cover something else.

    Raises:
        ConfigError: The name or the times mean nothing, or the name is taken.
        CommitConflictError: Others came first too often; the hold is not set.
    """
    _check(hold)
    report = HoldReport(hold)
    before: list[Hold] = []

    def fit(head: Snapshot, content: Content) -> Content | None:
        there = head.holds.get(hold.name)
        if there is not None and _cover(there) == _cover(hold):
            return None
        if there is not None and not replace_cover:
            raise ConfigError(
                f"a hold {hold.name} is in force and covers something else: {cover_text(there)}",
                hint="choose another name, or give --replace if its cover is to change",
            )
        before[:] = [there] if there is not None else []
        return content

    report.commit = _commit(archive, hold, fit, report)
    report.replaced = before[0] if before and report.commit is not None else None
    # In force already: in the words, and for the reason, that are in the ledger.
    report.hold = archive.ledger.snapshot.holds.get(hold.name, hold)
    _count_covered(archive, report)
    _look_back(archive, report)
    return report


def release_hold(archive: Archive, name: str, *, reason: str) -> HoldReport:
    """End a hold: what it covered expires by the rules again, at the next `retain`.

    Raises:
        ConfigError: No hold of that name is in force.
        CommitConflictError: Others came first too often; the hold is in force.
    """
    there = archive.ledger.refresh().holds.get(name)
    if there is None:
        raise ConfigError(
            f"no hold {name!r:.80} is in force", hint="`archiver hold list` names those that are"
        )
    released = replace(there, reason=reason, released=True)
    _check(released)
    report = HoldReport(released)
    report.commit = _commit(
        archive, released, lambda head, content: content if name in head.holds else None, report
    )
    return report


def history(archive: Archive, progress: Progress | None = None) -> Iterator[HoldEvent]:
    """Yield every commit about a hold, oldest first. Reads the whole ledger."""
    telling = progress or Silent()
    telling.start("reading the ledger", None)
    try:
        for commit in archive.ledger.since(-1):
            telling.advance(rows=1)
            if commit.content.hold is not None:
                yield HoldEvent(commit.sequence, commit.committed_us, commit.content.hold)
    finally:
        telling.finish()


def cover_text(hold: Hold) -> str:
    """Say what a hold covers, for people."""
    since = "the beginning" if hold.since_us is None else clock.to_text(hold.since_us)
    until = "the end" if hold.until_us is None else clock.to_text(hold.until_us)
    whose = "all workspaces" if hold.workspace is None else f"workspace {hold.workspace}"
    return f"{whose}, from {since} to before {until}"


def _check(hold: Hold) -> None:
    if not _NAME.fullmatch(hold.name):
        raise ConfigError(
            f"{hold.name!r:.80} is no name of a hold", hint="1 to 64 of letters, digits, `_`, `.` and `-`"
        )
    if not hold.reason.strip() or len(hold.reason) > _LONGEST_REASON or not hold.reason.isprintable():
        raise ConfigError(
            f"the reason is empty, not one line, or longer than {_LONGEST_REASON:,} characters",
            hint="it stands in the ledger for good: name the case and who asked",
        )
    if hold.since_us is not None and hold.until_us is not None and hold.since_us >= hold.until_us:
        raise ConfigError(f"the hold {hold.name} covers nothing: --since is not before --until")
    if hold.workspace is not None:
        try:
            layout.escape(hold.workspace)
        except ValueError as error:
            raise ConfigError(f"no workspace can have that name: {error}") from None


def _cover(hold: Hold) -> tuple[str | None, int | None, int | None]:
    return hold.workspace, hold.since_us, hold.until_us


def _commit(archive: Archive, hold: Hold, fit: _Fit, report: HoldReport) -> int | None:
    """Commit the hold; None if there is nothing left to say."""
    content = Content(operation="hold", batch=secrets.token_hex(16), attempt=layout.new_attempt(), hold=hold)
    seen = archive.ledger.refresh().sequence
    outcome = protocol.commit(archive.ledger, content, seen=seen, refit=fit)
    match outcome:
        case protocol.Committed(commit):
            if problem := lock_committed(archive, commit):
                report.problems.append(problem)
            after_commits(archive)
            return commit.sequence
        case protocol.AlreadyCommitted(sequence):
            return sequence
        case protocol.PlanAgain():
            return None
    raise CommitConflictError(f"the hold {hold.name} could not be committed", hint="run again")


def _count_covered(archive: Archive, report: HoldReport) -> None:
    files, hold = archive.ledger.snapshot.files, report.hold
    if hold.since_us is None and hold.until_us is None:  # very many, perhaps
        volumes = [
            one for (_, workspace), one in files.volumes().items() if hold.workspace in (None, workspace)
        ]
        report.covered_files = sum(one.files for one in volumes)
        report.covered_rows = sum(one.rows for one in volumes)
        return
    workspaces = None if hold.workspace is None else (hold.workspace,)
    found = files.select(workspaces=workspaces, since_us=hold.since_us, until_us=hold.until_us, digests=False)
    report.covered_files, report.covered_rows = len(found), sum(file.rows for file in found)


def _look_back(archive: Archive, report: HoldReport) -> None:
    """Look for what expired before the hold came, as far back as the archive still remembers files."""
    head, hold = archive.ledger.snapshot, report.hold
    # Few of a million files were let go, and fewer of this workspace: their keys alone tell which.
    gone = [
        (where, removed_by)
        for key, removed_by in head.files.superseded().items()
        if (where := layout.partition_of(key)) and hold.workspace in (None, where.workspace)
    ]
    expiries = {
        number
        for number in {removed_by for _, removed_by in gone}
        if archive.ledger.read(number).content.operation == "expire"
    }
    first = head.sequence + 1
    for entry in head.files.entries({where for where, removed_by in gone if removed_by in expiries}):
        removed_by = entry.removed_by
        if removed_by in expiries and hold.covers(entry.file):
            report.expired_files += 1
            report.expired_rows += entry.file.rows
            first = min(first, removed_by)
            report.still_there += removed_by > head.oldest_readable or _is_there(archive, entry.file.key)
    if report.expired_files and first > head.oldest_readable:
        report.readable_as_of = first - 1


def _is_there(archive: Archive, key: str) -> bool:
    try:
        archive.store.info(key)
    except ObjectNotFoundError:
        return False
    return True
