"""Compaction: merge what the plan names, put the new files, commit, again and again.

Each commit stands for itself: whoever is interrupted has lost the work of one commit, and
the next compaction goes on from there. A commit takes at most one group of each partition,
so `verify` can tell from the ledger alone which original files a new file must have the
rows of.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import zip_longest
from types import TracebackType
from typing import Any, Final

from archiver import layout, maintain
from archiver.archive import Archive
from archiver.compact.merge import Merged, merge, merged_file
from archiver.compact.plan import MOST_FILES, Group, Policy, plan
from archiver.errors import CommitConflictError, IntegrityError, ObjectNotFoundError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile
from archiver.ledger.ledger import Ledger
from archiver.lock import lock_committed
from archiver.progress import Progress, Silent

COMMIT_BYTES: Final = 1 << 30  # that one commit replaces, about: what an interruption may cost
COMMIT_SECONDS: Final = 240.0  # far below a quarter of any sensible grace
_LOSSES: Final = 10
_SMALL_GROUP_BYTES: Final = 4 << 20
_MERGERS: Final = 4
_READERS: Final = 16
_READ_AHEAD_BYTES: Final = 8 << 20


@dataclass(slots=True)
class CompactReport:
    """What was, or would be, done.

    Attributes:
        partitions: How many have fewer files now.
        files_before, files_after: That were replaced, and by how many.
        bytes_before, bytes_after: Of those; `after` is not known of a dry run, and 0.
        rows: That lie in other files now.
        commits: Sequences of the commits made.
        overtaken: Groups left as they are, since another commit took files of them.
        planned: Of a dry run: dataset, workspace, dt, files, bytes and new files of each partition.
        problems: Locks that could not be set, in words.
    """

    dry_run: bool = False
    partitions: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    commits: list[int] = field(default_factory=list)
    overtaken: int = 0
    planned: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "compact_report",
            **{name: getattr(self, name) for name in self.__slots__},
            "seconds": round(self.seconds, 3),
        }


def compact(
    archive: Archive,
    policy: Policy | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CompactReport:
    """Replace small files of a partition by one with the same rows, as far as `policy` finds it worth it.

    Safe beside runs, queries, other compactions and expiry. The old files stay for those who
    read older snapshots, until `collect` lets them go. Memory: the group's bytes, and the new
    file's or once more the group's, and about 100 MB.

    Args:
        dry_run: Only say what would be done.

    Raises:
        ConfigError: The policy makes no sense.
        CommitConflictError: Others were always quicker. What was committed before stands, as
            after any other error.
        IntegrityError: A file is not what the ledger says; nothing was taken over from it.
    """
    policy = policy or Policy()
    policy.check()
    report = CompactReport(dry_run)
    started = time.monotonic()
    archive.ledger.refresh()
    if dry_run:
        _foretell(plan(archive.ledger, policy), report)
        return report
    try:
        with _Compaction(archive, progress or Silent(), report) as work:
            while planned := plan(archive.ledger, policy, without=work.left_alone):
                work.take(planned)
                archive.ledger.refresh()
    finally:
        report.partitions = len(work.touched)
        report.seconds = time.monotonic() - started
        if report.commits:
            maintain.after_commits(archive, progress)
    return report


def _foretell(planned: list[list[Group]], report: CompactReport) -> None:
    report.partitions = len(planned)
    for groups in planned:
        place = groups[0].partition
        told: dict[str, Any] = {
            "dataset": place.dataset,
            "workspace": place.workspace,
            "dt": place.dt,
            "files": sum(len(group.files) for group in groups),
            "bytes": sum(group.bytes for group in groups),
            "new_files": len(groups),
        }
        report.planned.append(told)
        report.files_before += told["files"]
        report.files_after += told["new_files"]
        report.bytes_before += told["bytes"]
        report.rows += sum(group.rows for group in groups)


class _Compaction:
    """One call of `compact`, its threads, and what it has learnt on the way.

    Attributes:
        left_alone: Files that cannot be merged with others within memory.
        touched: Partitions that have fewer files now.
    """

    def __init__(self, archive: Archive, progress: Progress, report: CompactReport) -> None:
        self.left_alone: set[str] = set()
        self.touched: set[layout.Partition] = set()
        self._archive = archive
        self._progress = progress
        self._report = report
        self._losses = 0
        self._vanished: list[Group] = []
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        self._mergers = ThreadPoolExecutor(_MERGERS, thread_name_prefix="merge")

    def __enter__(self) -> _Compaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self._mergers, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)

    def take(self, planned: list[list[Group]]) -> None:
        """Do what is planned, a commit after the other, until done or another's commit makes it stale."""
        if self._losses:
            random.shuffle(planned)  # whoever was quicker is at work at the beginning of the same list
        total = sum(group.bytes for groups in planned for group in groups)
        self._progress.start("compacting", total)
        try:
            for groups in zip_longest(*planned):
                left = deque(group for group in groups if group is not None)
                while left:
                    if not self._one_commit(left):
                        return
        finally:
            self._report.overtaken += len(self._vanished)
            self._vanished.clear()
            self._progress.finish()

    def _one_commit(self, left: deque[Group]) -> bool:
        """Merge groups off the list, and commit; return whether what is left is still up to date."""
        archive, report = self._archive, self._report
        batch, attempt = secrets.token_hex(16), layout.new_attempt()
        added: list[DataFile] = []
        taken: list[DataFile] = []
        for merged, number in self._merged(left):
            place = merged.files[0].partition
            day, form = date.fromisoformat(place.dt), archive.encoding.format
            key = layout.data_file(place.dataset, place.workspace, day, batch, attempt, number, form)
            archive.store.put(key, merged.content)
            added.append(merged_file(merged, key))
            taken.extend(merged.files)
        if not added:
            return True
        content = Content(
            operation="compact",
            batch=batch,
            attempt=attempt,
            added=tuple(added),
            removed=tuple(file.key for file in taken),
        )
        outcome = protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
        if not isinstance(outcome, protocol.Committed):
            self._lose(len(added), outcome)
            return False
        self._losses = 0
        self.touched |= {file.partition for file in added}
        report.commits.append(outcome.commit.sequence)
        report.files_before += len(taken)
        report.files_after += len(added)
        report.bytes_before += sum(file.bytes for file in taken)
        report.bytes_after += sum(file.bytes for file in added)
        report.rows += sum(file.rows for file in added)
        if problem := lock_committed(archive, outcome.commit):
            report.problems.append(problem)
        return True

    def _lose(self, groups: int, outcome: protocol.Outcome) -> None:
        """Take note that a commit of others made ours impossible. The files we put wait for `collect`."""
        self._report.overtaken += groups
        self._losses += 1
        if self._losses >= _LOSSES:
            told = outcome.why if isinstance(outcome, protocol.PlanAgain) else type(outcome).__name__
            raise CommitConflictError(
                f"{_LOSSES} compactions in a row were overtaken, the last time: {told}",
                hint="run again; if it happens often, run one compaction at a time",
            )

    def _merged(self, left: deque[Group]) -> Iterator[tuple[Merged, int]]:
        """Yield new files until they are enough for one commit: by old files, bytes, or time."""
        deadline = time.monotonic() + COMMIT_SECONDS
        files = size = number = 0
        most_bytes = COMMIT_BYTES >> (2 * self._losses)  # who loses the race does well to be quicker
        while left and time.monotonic() < deadline:
            chosen: list[Group] = []
            together = 0
            while left and len(chosen) < 2 * _MERGERS:
                group = left[0]
                if files and (files + len(group.files) > MOST_FILES or size + group.bytes > most_bytes):
                    break
                if chosen and together + group.bytes > _MERGERS * _SMALL_GROUP_BYTES:
                    break
                chosen.append(left.popleft())
                files, size, together = files + len(group.files), size + group.bytes, together + group.bytes
            if not chosen:
                return
            # Small groups side by side; a large one is alone here, and has the memory for itself.
            for group, merged in zip(chosen, self._mergers.map(self._merge, chosen), strict=True):
                self._progress.advance(bytes_done=group.bytes, rows=group.rows)
                if merged is not None:
                    yield merged, number
                    number += 1

    def _merge(self, group: Group) -> Merged | None:
        store = self._archive.store

        def read(files: Sequence[DataFile]) -> Iterator[bytes]:
            for part in _portions(files):  # not all at once: they would wait in memory
                yield from self._readers.map(lambda file: store.get(file.key), part)

        try:
            merged = merge(group.files, read, self._archive.encoding)
        except ObjectNotFoundError as error:
            # Compacted by others, and collected since? Then it is not live any more.
            keys = [file.key for file in group.files]
            if len(Ledger.open(store).snapshot.files.find(keys)) == len(keys):
                raise IntegrityError(
                    f"{error.message}, though the ledger names it",
                    hint="run `archiver verify`, restore the file from a copy",
                ) from error
            self._vanished.append(group)
            return None
        if merged is None:
            self.left_alone.update(file.key for file in group.files)
        return merged


def _portions(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    part: list[DataFile] = []
    for file in files:
        if part and (
            len(part) == _READERS or sum(one.bytes for one in part) + file.bytes > _READ_AHEAD_BYTES
        ):
            yield part
            part = []
        part.append(file)
    yield part
