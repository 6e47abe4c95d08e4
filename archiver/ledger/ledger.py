"""Reading the chain: open it, follow it, look back into it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from archiver import clock, layout
from archiver.errors import ArchiveNotFoundError, ConfigError, IntegrityError, ObjectNotFoundError
from archiver.ledger.entry import Commit, DataFile, decode, decode_list
from archiver.ledger.snapshot import Snapshot
from archiver.store.base import Store

_READERS = 16
_REMEMBERED = 100  # commits kept in memory, for `since`


class Ledger:
    """The chain of an archive, followed up to the newest commit that was seen.

    Opening and refreshing check every link: a commit that does not name the digest of
    its predecessor's bytes is an `IntegrityError`.

    Attributes:
        store: Where it lies.
        snapshot: The state at the newest commit seen. Moves with `refresh`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.snapshot = Snapshot()
        self._recent: dict[int, Commit] = {}
        self._is_pinned = False

    @staticmethod
    def open(store: Store) -> Ledger:
        """Open the ledger in `store` and follow it to the head.

        Raises:
            ArchiveNotFoundError: There is none.
            IntegrityError: The chain is broken.
        """
        ledger = Ledger(store)
        ledger.refresh()
        if ledger.snapshot.sequence < 0:
            raise ArchiveNotFoundError(
                f"{store.location}: no archive is here ({layout.commit(0)} is missing)",
                hint="check the location and that the disk is mounted; `archiver init` creates a new archive",
            )
        return ledger

    def refresh(self) -> Snapshot:
        """Follow the chain to its present head and return the state there; a pinned one stays."""
        if self._is_pinned:
            return self.snapshot
        before = self.snapshot.sequence
        listed = [
            sequence
            for info in self.store.list(
                layout.LEDGER, start_after=layout.commit(before) if before >= 0 else ""
            )
            if (sequence := layout.sequence_of(info.key)) is not None and sequence > before
        ]
        if listed:
            wanted = range(before + 1, max(listed) + 1)
            with ThreadPoolExecutor(min(_READERS, len(wanted))) as readers:
                for commit in readers.map(self._read_listed, wanted):
                    self.follow(commit)
        # A listing may lag behind on some stores; the key itself does not.
        while (commit_or_none := self._read_next()) is not None:
            self.follow(commit_or_none)
        if self.snapshot.sequence > before:
            self.store.settle()  # (5) whoever acts on a commit that it found makes it durable first
        return self.snapshot

    def _read_listed(self, sequence: int) -> Commit:
        try:
            return self.read(sequence)
        except ObjectNotFoundError as error:
            raise IntegrityError(
                f"{layout.commit(sequence)}: missing, though later commits are there",
                hint="the ledger was damaged: run `archiver verify`, restore the commit from a copy",
            ) from error

    def _read_next(self) -> Commit | None:
        try:
            return self.read(self.snapshot.sequence + 1)
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
        """Fold the chain up to `sequence`.

        Raises:
            ObjectNotFoundError: The chain is shorter.
        """
        snapshot = Snapshot()
        for number in range(sequence + 1):
            snapshot.apply(self._recent.get(number) or self.read(number))
        return snapshot
