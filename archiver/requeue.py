"""Sending quarantined entries through again: those that pass now are moved, once; the others stay.

A requeue is a batch like any other whose inputs are quarantine files. It needs no claim:
its commit names every entry that it moves, and an entry that was moved cannot be moved again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from archiver import quarantine
from archiver.archive import Archive
from archiver.attempt import Attempt
from archiver.block import Block, Shape
from archiver.errors import CommitConflictError, IntegrityError
from archiver.index.known import Background
from archiver.index.reading import FileVanishedError
from archiver.judging import Judges
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Counts, ListedObject, digest_of
from archiver.lock import lock_committed
from archiver.progress import Silent
from archiver.quarantine import QuarantineEntry
from archiver.validate import Rules

# Stretches that hold no element: whatever the rules, they cannot become one.
NEVER: Final = frozenset({"torn_frame", "damaged_frame", "damaged_file", "expansion_limit", "too_long"})
_BLOCK_ENTRIES: Final = 2_000
_TRIES: Final = 10
_PASS_BYTES: Final = 64 << 20
_PASS_ENTRIES: Final = 100_000

Chosen = Callable[[QuarantineEntry], bool]


@dataclass(slots=True)
class RequeueReport:
    """What became of the chosen entries.

    Attributes:
        chosen: How many were sent through.
        counts: Of the moved ones: read = archived + supplements + duplicates.
        stayed: Reason now -> how many.
        problems: Locks that could not be set, in words.
    """

    chosen: int = 0
    counts: Counts = Counts()
    stayed: dict[str, int] = field(default_factory=dict)
    commits: list[int] = field(default_factory=list)
    dry_run: bool = False
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "requeue_report",
            "dry_run": self.dry_run,
            "chosen": self.chosen,
            "moved": self.counts.read,
            **self.counts.to_json(),
            "stayed": self.stayed,
            "commits": self.commits,
            "problems": self.problems,
        }


def entries(archive: Archive, chosen: Chosen = lambda _: True) -> Iterator[QuarantineEntry]:
    """Yield what is in quarantine now, in the order it was rejected; one file in memory at a time.

    Raises:
        IntegrityError: A quarantine file is not what the ledger says.
    """
    moved = archive.ledger.snapshot.moved
    for sequence, listed in list(archive.ledger.snapshot.quarantine):
        content = checked(archive, listed)
        for entry in quarantine.decode(content, listed, sequence):
            if (sequence, entry.rejection.ordinal) not in moved and chosen(entry):
                yield entry


def checked(archive: Archive, listed: ListedObject) -> bytes:
    """Return the bytes of a quarantine file.

    Raises:
        IntegrityError: They are not those that the ledger says.
    """
    content = archive.store.get(listed.key)
    found = digest_of(content)
    if found != listed.digest:
        raise IntegrityError(f"{listed.key}: expected {listed.digest}, found {found}")
    return content


def requeue(
    archive: Archive, rules_of: Callable[[str], Rules], chosen: Chosen, *, dry_run: bool = False
) -> RequeueReport:
    """Judge the chosen entries again, and move those that pass into the archive.

    Args:
        rules_of: Source's name -> what its events are judged by now.
        chosen: Which entries; those that hold no element are left out anyway.
        dry_run: Say what would be moved; the archive is left alone.

    Raises:
        CommitConflictError: Others came first too often; nothing was moved by this try.
    """
    report = RequeueReport(dry_run=dry_run)
    sources = {entry.source for entry in entries(archive, lambda one: _may(one, chosen))}
    for source in sorted(sources):
        with Judges(rules_of(source), workers=0) as judges:
            _requeue_source(archive, source, judges, chosen, report)
    return report


def _may(entry: QuarantineEntry, chosen: Chosen) -> bool:
    return entry.rejection.reason not in NEVER and chosen(entry)


def _requeue_source(
    archive: Archive, source: str, judges: Judges, chosen: Chosen, report: RequeueReport
) -> None:
    """Send the chosen entries of one source through, some megabytes a commit."""
    last = (-1, -1)
    while True:
        picked = _pick(archive, lambda one: one.source == source and _may(one, chosen), last)
        if not picked:
            return
        last = picked[-1].commit, picked[-1].rejection.ordinal
        if report.dry_run:
            _judge_only(archive, judges, picked, report)
        else:
            _move(archive, source, judges, picked, report)


def _pick(archive: Archive, chosen: Chosen, behind: tuple[int, int]) -> list[QuarantineEntry]:
    picked: list[QuarantineEntry] = []
    size = 0
    for entry in entries(archive, chosen):
        if (entry.commit, entry.rejection.ordinal) > behind:
            picked.append(entry)
            size += len(entry.rejection.body)
            if size > _PASS_BYTES or len(picked) >= _PASS_ENTRIES:
                break
    return picked


def _move(
    archive: Archive, source: str, judges: Judges, picked: list[QuarantineEntry], report: RequeueReport
) -> None:
    batch = secrets.token_hex(16)
    for _ in range(_TRIES):
        head = archive.ledger.refresh()
        picked = [one for one in picked if (one.commit, one.rejection.ordinal) not in head.moved]
        if not picked:
            return
        from_commits = {one.commit for one in picked}
        files = [listed for commit, listed in head.quarantine if commit in from_commits]
        attempt = Attempt(archive, batch, source=source, inputs=[f.key for f in files], from_quarantine=True)
        try:
            result = attempt.work(judges.judge(_blocks(picked), total_bytes=0), Silent())
        except FileVanishedError as error:
            error.hold_against(archive.ledger.refresh())
            continue
        stayed = {one.ordinal for one in result.refused}
        moved = tuple((one.commit, one.rejection.ordinal) for n, one in enumerate(picked) if n not in stayed)
        if moved:
            content = attempt.content(
                operation="requeue",
                source={"name": source},
                inputs=tuple({"name": one.key, "digest": one.digest, "bytes": one.bytes} for one in files),
                moved=moved,
            )
            outcome = protocol.commit(archive.ledger, content, seen=attempt.seen, collides=attempt.collides)
            if not isinstance(outcome, protocol.Committed):
                continue
            report.commits.append(outcome.commit.sequence)
            if problem := lock_committed(archive, outcome.commit):
                report.problems.append(problem)
        report.chosen += len(picked)
        report.counts += result.counts
        for one in result.refused:
            report.stayed[one.reason] = report.stayed.get(one.reason, 0) + 1
        return
    raise CommitConflictError("the requeue was overtaken by other commits too often", hint="run again")


def _judge_only(
    archive: Archive, judges: Judges, picked: list[QuarantineEntry], report: RequeueReport
) -> None:
    """Count what would become of the picked entries; nothing is written."""
    background = Background(archive.ledger.snapshot)
    for judged in judges.judge(_blocks(picked), total_bytes=0):
        report.chosen += judged.read
        refused = list(judged.rejections)
        for dataset, arranged in judged.tables.items():
            rows = pa.Table.from_batches([arranged.rows])
            decision = archive.identities.decide(rows, dataset, background)
            refused += decision.conflicts
            new, supplements = int(decision.new.sum()), decision.supplements.num_rows
            moved = new + supplements + decision.duplicates
            report.counts += Counts(moved, new, supplements, decision.duplicates)
        for one in refused:
            report.stayed[one.reason] = report.stayed.get(one.reason, 0) + 1


def _blocks(picked: list[QuarantineEntry]) -> Iterator[Block]:
    """Yield the picked entries as blocks of one shape each; an element's ordinal is its place in `picked`."""
    by_start: dict[tuple[int, Shape], Block] = {}
    for number, entry in enumerate(picked):
        one = entry.rejection
        block = by_start.setdefault((number // _BLOCK_ENTRIES, one.shape), Block(0, shape=one.shape))
        block.bodies.append(one.body)
        block.ordinals.append(number)
        block.offsets.append(one.offset)
        block.received_at.append(one.received_at)
        block.streams.append(one.stream)
    yield from by_start.values()
