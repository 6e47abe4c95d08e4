"""Reading the chain: open it, follow it, look back into it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice, takewhile

import pyarrow as pa

from archiver import clock, layout
from archiver.errors import ArchiveNotFoundError, ConfigError, IntegrityError, ObjectNotFoundError
from archiver.ledger import checkpoint, checkpoint_write
from archiver.ledger.base import Base
from archiver.ledger.checkpoint import StoredState
from archiver.ledger.checkpoint_parts import SCHEMAS, CacheDamagedError
from archiver.ledger.checkpoint_write import CheckpointReport
from archiver.ledger.entry import Commit, DataFile, decode, decode_list
from archiver.ledger.snapshot import Snapshot
from archiver.progress import Progress
from archiver.store.base import Store

log = logging.getLogger(__name__)

_READERS = 16
_WIDEST_WINDOW = 64  # commits asked for at once while the head is looked for
_REMEMBERED = 100  # commits kept in memory, for `since`


class Ledger:
    """The chain of an archive, followed up to the newest commit that was seen.

    Opening begins with the newest checkpoint and gallops on: the next commit, then the two,
    four, eight after it, until one is not there. Every link behind the checkpoint is
    checked: a commit that does not name the digest of its predecessor's bytes is an
    `IntegrityError`. Those before it are checked by `archiver verify`.

    Attributes:
        store: Where it lies.
        snapshot: The state at the newest commit seen. Moves with `refresh`.
        checkpoint: The commit of the checkpoint that this began with, or wrote last.
        distrusts_checkpoints: A damaged one was met and left aside: another is due.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.snapshot = Snapshot()
        self.checkpoint: int | None = None
        self.distrusts_checkpoints = False
        self._files_at_checkpoint = 0
        self._left_aside: set[str] = set()
        self._recent: dict[int, Commit] = {}
        self._is_pinned = False
        self._was_followed = False

    @staticmethod
    def open(store: Store, *, from_checkpoint: bool = True) -> Ledger:
        """Open the ledger in `store` and follow it to the head.

        Args:
            from_checkpoint: Begin with the newest checkpoint; else with the first commit.

        Raises:
            ArchiveNotFoundError: There is none.
            IntegrityError: The chain is broken.
        """
        ledger = Ledger(store)
        found = checkpoint.newest(store) if from_checkpoint else None
        if found is not None:
            ledger.snapshot = ledger._begin(*found)
            ledger.checkpoint = ledger.snapshot.sequence
        ledger.refresh()
        if ledger.snapshot.sequence < 0:
            raise ArchiveNotFoundError(
                f"{store.location}: no archive is here ({layout.commit(0)} is missing)",
                hint="check the location and that the disk is mounted; `archiver init` creates a new archive",
            )
        return ledger

    def _begin(self, key: str, state: StoredState) -> Snapshot:
        """Return the snapshot of a checkpoint; where a part of it is damaged, others take its place."""

        def again() -> Snapshot:
            self._left_aside.add(key)
            self.distrusts_checkpoints = True
            return self.at(state.sequence)

        base = Base(state, again)
        snapshot = Snapshot(base)
        snapshot.sequence, snapshot.digest = state.sequence, state.digest
        snapshot.committed_us, snapshot.oldest_readable = state.committed_us, state.oldest_readable
        snapshot.archive = state.archive
        snapshot.cursors, snapshot.holds, snapshot.totals = state.small
        return snapshot

    def refresh(self) -> Snapshot:
        """Follow the chain to its present head and return the state there; a pinned one stays."""
        if self._is_pinned:
            return self.snapshot
        before = self.snapshot.sequence
        window = 1
        # In a folder, to hand a commit from thread to thread takes longer than to read it.
        is_near = self.store.local_path(layout.commit(0)) is not None
        with nullcontext() if is_near else ThreadPoolExecutor(_READERS) as readers:
            if not is_near and not self._was_followed:
                # One listing saves the guessing; what it does not tell of is looked for all the same.
                listed = self._count_listed()
                if listed:
                    self._follow_next(listed, readers)
            while self._follow_next(window, readers):
                window = min(2 * window, _WIDEST_WINDOW)
        self._was_followed = True
        if self.snapshot.sequence > before:
            self.store.settle()  # (5) whoever acts on a commit that it found makes it durable first
        return self.snapshot

    def _count_listed(self) -> int:
        """Return how many commits a listing shows behind the snapshot, some hundreds at most."""
        commits = self.store.list(layout.LEDGER, start_after=layout.commit(self.snapshot.sequence))
        told = (layout.sequence_of(info.key) is not None for info in islice(commits, _WIDEST_WINDOW))
        return sum(1 for _ in takewhile(bool, told))

    def _follow_next(self, count: int, readers: ThreadPoolExecutor | None) -> bool:
        """Follow the next `count` commits, read at once if there are `readers`; False at the first missing.

        Raises:
            IntegrityError: A commit is not there, and a later one is.
        """
        first = self.snapshot.sequence + 1
        wanted = range(first, first + count)
        each = map if count == 1 or readers is None else readers.map
        found = list(each(self._read_or_none, wanted))
        if found[-1] is None and not self._was_followed:
            # On opening, the ledger ends only where two commits running are not there: else it is a gap.
            found.append(self._read_or_none(first + count))
        for number, commit in enumerate(found):
            if commit is None and any(found[number + 1 :]):
                # It may have been made while the later ones were read.
                commit = self._read_or_none(first + number)  # noqa: PLW2901
                if commit is None:
                    raise IntegrityError(
                        f"{layout.commit(first + number)}: missing, though later commits are there",
                        hint="the ledger was damaged: run `archiver verify`, restore the commit from a copy",
                    )
            if commit is None:
                return False
            self.follow(commit)
        return True

    def _read_or_none(self, sequence: int) -> Commit | None:
        try:
            return self.read(sequence)
        except ObjectNotFoundError:
            return None

    def read(self, sequence: int) -> Commit:
        """Read one commit, with its file lists.

        Raises:
            ObjectNotFoundError: It is not there.
            IntegrityError: It is no commit, or a list is not what it says.
        """
        key = layout.commit(sequence)
        commit = decode(self.store.get(key), key)
        if commit.sequence != sequence:
            raise IntegrityError(f"{key}: expected sequence {sequence}, found {commit.sequence}")
        return self.with_lists(commit)

    def with_lists(self, commit: Commit) -> Commit:
        """Return `commit` with the files that its lists name in `added`."""
        if not commit.content.lists:
            return commit
        files: list[DataFile] = []
        for listed in commit.content.lists:
            try:
                content = self.store.get(listed.key)
            except ObjectNotFoundError as error:  # the commit is there, so this is no end of the chain
                raise IntegrityError(
                    f"{listed.key}: missing, though commit {commit.sequence} names it",
                    hint="the ledger was damaged: run `archiver verify`, restore the list from a copy",
                ) from error
            files.extend(decode_list(content, listed))
        return replace(commit, content=replace(commit.content, added=tuple(files)))

    def follow(self, commit: Commit) -> None:
        """Fold a commit that was read, or that this process has just written."""
        self.snapshot.apply(commit)
        self._recent[commit.sequence] = commit
        self._recent.pop(commit.sequence - _REMEMBERED, None)

    def since(self, sequence: int) -> Iterator[Commit]:
        """Yield the commits behind `sequence` up to the newest one seen."""
        for number in range(sequence + 1, self.snapshot.sequence + 1):
            yield self._recent.get(number) or self.read(number)

    def pinned(self, sequence: int) -> Ledger:
        """Return this chain as it was after the commit `sequence`, and stays.

        Raises:
            ConfigError: There is no such commit, or its files may be gone.
        """
        head = self.snapshot
        if not 0 <= sequence <= head.sequence:
            raise ConfigError(
                f"there is no commit {sequence}: the newest is {head.sequence}",
                hint="`archiver status` names the newest commit",
            )
        if sequence < head.oldest_readable:
            raise ConfigError(
                f"commit {sequence} is no longer readable: {head.oldest_readable} is the oldest that is",
                hint="`collect` let go of files that were compacted or expired before; "
                "its --keep-snapshots says for how long they stay",
            )
        pinned = Ledger(self.store)
        pinned.snapshot = self.at(sequence)
        pinned._is_pinned = True
        return pinned

    def sequence_at(self, time_us: int) -> int:
        """Return the newest commit that was made at `time_us` or before, in microseconds since 1970.

        Raises:
            ConfigError: The archive is younger.
        """
        low, high = -1, self.snapshot.sequence
        while low < high:
            middle = (low + high + 1) // 2
            if (self._recent.get(middle) or self.read(middle)).committed_us <= time_us:
                low = middle
            else:
                high = middle - 1
        if low < 0:
            raise ConfigError(f"the archive did not exist yet at {clock.to_text(time_us)}")
        return low

    def at(self, sequence: int) -> Snapshot:
        """Return the state after the commit `sequence`: from a checkpoint, and folded from there.

        Raises:
            ObjectNotFoundError: The chain is shorter.
        """
        commit = self._recent.get(sequence) or self.read(sequence)
        found = checkpoint.newest(self.store, at=commit, left_aside=self._left_aside)
        snapshot = self._begin(*found) if found is not None else Snapshot()
        wanted = range(snapshot.sequence + 1, sequence + 1)
        for earlier in checkpoint_write.in_order(wanted, lambda one: self._recent.get(one) or self.read(one)):
            snapshot.apply(earlier)
        return snapshot

    def confirm_batch(self, batch: str) -> None:
        """Return if the commit that is said to hold `batch` does: a checkpoint's word lets nobody forget.

        Raises:
            IntegrityError: It holds another one.
        """
        sequence = self.snapshot.batches[batch]
        commit = self._recent.get(sequence) or self.read(sequence)
        if commit.content.batch != batch:
            raise IntegrityError(
                f"{layout.commit(sequence)}: expected batch {batch}, as a checkpoint says, "
                f"found {commit.content.batch}",
                hint="the checkpoint was altered: `archiver verify`, then `archiver checkpoint --rebuild`",
            )

    def newest(self, operation: str) -> Commit | None:
        """Return the newest commit of this operation up to the one that the snapshot is at."""
        for number in range(self.snapshot.sequence, -1, -1):  # those in memory
            commit = self._recent.get(number)
            if commit is None:
                break
            if commit.content.operation == operation:
                return commit
        found = checkpoint.newest(self.store, at=self._head(), left_aside=self._left_aside)
        stored = found[1].sequence if found is not None else -1
        for number in range(self.snapshot.sequence, stored, -1):
            commit = self._recent.get(number) or self.read(number)
            if commit.content.operation == operation:
                return commit
        if found is None:
            return None
        try:
            known = found[1].commits.newest(operation)
            return None if known is None else self.read(known)
        except CacheDamagedError as error:
            self._leave_aside(found[0], error)
            return self.newest(operation)

    def stored_commits(self, until: int) -> Iterator[pa.Table]:
        """Yield the commits from 0 up to at most `until` as a checkpoint has them, some thousand at a time.

        The columns are those of a checkpoint's part, and `previous`. What no checkpoint holds
        is left to `read`; so is everything behind a damaged part.
        """
        commit = self._recent.get(until) or self.read(until)
        found = checkpoint.newest(self.store, at=commit, left_aside=self._left_aside)
        if found is None:
            return
        before = pa.scalar(None, pa.binary(32))
        try:
            for rows in found[1].commits.slices(*SCHEMAS["commits"].names):
                digests = rows["digest"].combine_chunks()
                previous = pa.concat_arrays([pa.array([before.as_py()], digests.type), digests[:-1]])
                yield rows.append_column("previous", previous)
                before = digests[-1]
        except CacheDamagedError as error:
            self._leave_aside(found[0], error)

    def _leave_aside(self, key: str, error: CacheDamagedError) -> None:
        log.warning("a checkpoint of the ledger is left aside: %s", error.message)
        self._left_aside.add(key)
        self.distrusts_checkpoints = True

    def _head(self) -> Commit:
        head = self.snapshot.sequence
        return self._recent.get(head) or self.read(head)

    def write_checkpoint(
        self, *, rebuild: bool = False, progress: Progress | None = None
    ) -> CheckpointReport:
        """Write a checkpoint of the head, if there is none of it yet.

        Args:
            rebuild: Read all commits again, and rely on no checkpoint that is there.

        Raises:
            StoreError: It could not be written; the archive is as it was.
            IntegrityError: The chain is broken, or a commit is not of the form that a checkpoint holds.
        """
        self.refresh()
        report = checkpoint_write.write(
            self.store,
            self._head(),
            lambda number: self._recent.get(number) or self.read(number),
            rebuild=rebuild,
            left_aside=self._left_aside,
            progress=progress,
        )
        self.checkpoint = report.sequence
        self._files_at_checkpoint = self.snapshot.files.since_checkpoint
        self.distrusts_checkpoints = False
        return report

    @property
    def behind_checkpoint(self) -> tuple[int, int]:
        """How many commits, and how many of their files, no checkpoint that this process knows of holds."""
        known = -1 if self.checkpoint is None else self.checkpoint
        files = self.snapshot.files.since_checkpoint - self._files_at_checkpoint
        return self.snapshot.sequence - known, files
