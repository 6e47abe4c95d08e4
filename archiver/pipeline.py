"""freeze → read → validate → identify → write → COMMIT → acknowledge.

The whole way of the events, to be read in one sitting. What each step promises is in
docs/design.md; what happens when it is interrupted anywhere is in the table there.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import Any

from archiver.archive import Archive
from archiver.attempt import CHUNK_BYTES, Attempt, Result
from archiver.errors import CommitConflictError, SourceError
from archiver.index.reading import FileVanishedError
from archiver.judging import Judges
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Counts
from archiver.lock import lock_committed
from archiver.progress import Progress, Silent
from archiver.sources.base import Batch, InputChangedError, Source
from archiver.validate import Rules

log = logging.getLogger(__name__)

ATTEMPTS = 10


def default_workers() -> int:
    """Return how many processes judge a large batch: one for each processor this process may use, up to 8."""
    return min(len(os.sched_getaffinity(0)), 8)


@dataclass(slots=True)
class RunReport:
    """What a run did. Its counts are those of the commits it made or, after a crash, found.

    Attributes:
        commits: Sequences of the commits that this run made.
        acknowledged_only: Batches that an earlier run had committed but not acknowledged.
        put_back: Batches whose inputs changed while they were read; the next run takes them.
        counts: Sum over the commits of this run.
        reasons: How many were quarantined, by reason.
        problems: In words: batches that could not be read, of which nothing was acknowledged, and
            locks that could not be set on what was committed.
        waiting: Files left in the spools: not quiet yet, just delivered, or claimed by another run.
        ignored: Names in the spools that are no deliveries.
        compaction: What a compaction behind the run did; None if none was asked for.
        databases: What became of each database's rows, what was left, and why; by the source's name.
    """

    commits: list[int] = field(default_factory=list)
    acknowledged_only: int = 0
    put_back: int = 0
    counts: Counts = Counts()
    reasons: dict[str, int] = field(default_factory=dict)
    files: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    head: int = -1
    head_digest: str = ""
    problems: list[str] = field(default_factory=list)
    waiting: int = 0
    ignored: int = 0
    compaction: dict[str, Any] | None = None
    databases: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "run_report",
            **self.counts.to_json(),
            "reasons": dict(sorted(self.reasons.items())),
            "commits": self.commits,
            "acknowledged_only": self.acknowledged_only,
            "put_back": self.put_back,
            "files": self.files,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "seconds": round(self.seconds, 3),
            "head": self.head,
            "head_digest": self.head_digest,
            "problems": self.problems,
            "waiting": self.waiting,
            "ignored": self.ignored,
            "compaction": self.compaction,
            "databases": self.databases,
        }


def run(
    archive: Archive,
    source: Source,
    *,
    rules: Rules,
    progress: Progress | None = None,
    workers: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    report: RunReport | None = None,
) -> RunReport:
    """Archive everything that `source` has ready, batch by batch.

    Whatever interrupts this, the next run goes on where it stopped: what was committed is
    only acknowledged, what was not is tried anew, and an event is archived once.

    Args:
        rules: What to judge by.
        workers: Processes that judge a large batch; 0 judges in this one.
        report: To be continued, where one run reads several sources.

    Raises:
        StoreError, CommitConflictError, CommitStateUnknownError, IntegrityError: As they
            say; nothing that was not committed has been acknowledged.
    """
    report = report or RunReport()
    progress = progress or Silent()
    started = time.monotonic()
    with Judges(rules, workers=default_workers() if workers is None else workers) as judges:
        try:
            for batch in source.batches(lambda: archive.ledger.refresh().sequence):
                progress.start(f"archiving {source.name}", sum(one.bytes for one in batch.inputs) or None)
                try:
                    _archive_or_leave(archive, batch, source.name, judges, progress, report, chunk_bytes)
                finally:
                    progress.finish()
        except SourceError as error:
            _note(report, error)
    head = archive.ledger.snapshot
    report.head, report.head_digest = head.sequence, head.digest
    report.seconds += time.monotonic() - started
    return report


def _archive_or_leave(
    archive: Archive,
    batch: Batch,
    source: str,
    judges: Judges,
    progress: Progress,
    report: RunReport,
    chunk_bytes: int,
) -> None:
    """Archive a batch, or leave it to the next run; a batch that cannot be read stops no other."""
    try:
        archive_batch(archive, batch, source, judges, progress, report, chunk_bytes=chunk_bytes)
    except InputChangedError as error:
        log.warning("%s", error.message)
        report.put_back += 1
        try:
            batch.put_back()
        except SourceError as trouble:
            _note(report, trouble)
    except SourceError as error:
        _note(report, error)
        batch.release()
    except BaseException:
        batch.release()
        raise


def _note(report: RunReport, error: SourceError) -> None:
    problem = f"{error.message}; {error.hint}" if error.hint else error.message
    log.error("%s", problem)
    report.problems.append(problem)


def archive_batch(
    archive: Archive,
    batch: Batch,
    source: str,
    judges: Judges,
    progress: Progress,
    report: RunReport,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Bring one frozen batch into the archive, once, and acknowledge it."""
    for _ in range(ATTEMPTS):
        if batch.batch in archive.ledger.refresh().batches:
            archive.ledger.confirm_batch(batch.batch)
            report.acknowledged_only += 1
            batch.acknowledge()  # an earlier run committed it and died before this
            return
        total = sum(one.bytes for one in batch.inputs)
        attempt = Attempt(archive, batch.batch, source=source, inputs=[one.name for one in batch.inputs])
        try:
            result = attempt.work(
                judges.judge(batch.read(), total_bytes=total), progress, chunk_bytes=chunk_bytes
            )
        except FileVanishedError as error:
            error.hold_against(archive.ledger.refresh())
            log.info("trying anew: %s", error.message)
            continue
        content = attempt.content(
            operation="append",
            source={"name": source, **batch.moves()},
            inputs=tuple(
                {
                    "name": one.name,
                    **({"digest": one.digest} if one.digest else {}),
                    "bytes": one.bytes,
                    "elements": result.elements.get(n, 0),
                }
                for n, one in enumerate(batch.inputs)
            ),
        )
        match protocol.commit(archive.ledger, content, seen=attempt.seen, collides=attempt.collides):
            case protocol.Committed(commit):
                _add_up(report, result, commit.sequence, total)
                if problem := lock_committed(archive, commit):
                    report.problems.append(problem)
                log.info(
                    "committed",
                    extra={"commit": commit.sequence, "digest": commit.digest, **result.counts.to_json()},
                )
                batch.acknowledge()
                return
            case protocol.AlreadyCommitted():
                continue  # the top of the loop acknowledges it
            case protocol.Fenced():
                log.warning("this attempt was declared dead by `collect`: trying anew")
            case protocol.PlanAgain(why):
                log.info("trying anew: %s", why)
    raise CommitConflictError(
        f"batch {batch.batch}: {ATTEMPTS} attempts, each overtaken by another commit",
        hint="run again; if it happens often, run fewer writers at once",
    )


def _add_up(report: RunReport, result: Result, sequence: int, bytes_read: int) -> None:
    report.commits.append(sequence)
    report.counts += result.counts
    report.files += len(result.added)
    report.bytes_read += bytes_read
    report.bytes_written += sum(file.bytes for file in result.added)
    for reason, count in result.reasons.items():
        report.reasons[reason] = report.reasons.get(reason, 0) + count
