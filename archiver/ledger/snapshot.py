"""The ledger, folded: what is live after a commit, and what must be remembered to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from archiver import layout
from archiver.errors import IntegrityError
from archiver.ledger.base import Base
from archiver.ledger.entry import Commit, Counts, Hold, ListedObject
from archiver.ledger.files import Files

_C = TypeVar("_C", set[str], set[tuple[int, int]], list[tuple[int, ListedObject]])


class Names(Mapping[str, int]):
    """Batches or attempts, each with its commit. Those of a checkpoint are read when one is asked for."""

    def __init__(self, stored: Callable[[], Mapping[str, int]] | None = None) -> None:
        self._stored = stored or dict
        self._since: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        found = self._since.get(name)
        return self._stored()[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        yield from self._stored()
        yield from self._since

    def __len__(self) -> int:
        return len(self._stored()) + len(self._since)

    def note(self, name: str, sequence: int) -> None:
        """Remember that the commit `sequence` has this name."""
        self._since[name] = sequence


class _Grown(Generic[_C]):
    """What every commit may add to. What lies in a checkpoint is read when the whole is asked for."""

    def __init__(self, make: Callable[[Iterable[Any]], _C], stored: Callable[[], _C] | None) -> None:
        self._make: Callable[[Iterable[Any]], _C] = make
        self._stored: Callable[[], _C] | None = stored
        self._since: list[Any] = []
        self._whole: _C | None = None if stored else make(())

    def add(self, items: Iterable[Any]) -> None:
        if self._whole is None:
            self._since.extend(items)
        elif isinstance(self._whole, list):
            self._whole.extend(items)
        else:
            self._whole.update(items)

    @property
    def whole(self) -> _C:
        if self._whole is None and self._stored is not None:
            self._whole = self._stored()
            since, self._since = self._since, []
            self.add(since)
        return self._whole if self._whole is not None else self._make(())


class Snapshot:
    """The state after the commit `sequence`. `apply` moves it on by one.

    Attributes:
        sequence: Of the newest commit; -1 before the first.
        digest: Of the newest commit.
        committed_us: Of the newest commit, in microseconds since 1970.
        oldest_readable: The oldest sequence whose snapshot may still be asked for.
        archive: What the first commit says the archive is.
        files: The live data files.
        batches: Batch -> the commit that holds it.
        attempts: Attempt that was committed -> its commit.
        cursors: Source name -> how far it was read.
        holds: Legal holds in force, by name.
        totals: Sum of all commits' counts.
    """

    def __init__(self, base: Base | None = None) -> None:
        self.sequence = -1
        self.digest = ""
        self.committed_us = 0
        self.oldest_readable = 0
        self.archive: dict[str, Any] = {}
        self.cursors: dict[str, Any] = {}
        self.holds: dict[str, Hold] = {}
        self.totals = Counts()
        self.files = Files(base)
        asked = base.ask if base is not None else None
        self.batches = Names(asked and (lambda: asked(lambda state: state.batches)))
        self.attempts = Names(asked and (lambda: asked(lambda state: state.attempts)))
        self._fenced: _Grown[set[str]] = _Grown(set, asked and (lambda: asked(lambda one: set(one.fenced))))
        self._moved: _Grown[set[tuple[int, int]]] = _Grown(
            set, asked and (lambda: asked(lambda one: set(one.moved)))
        )
        self._lists: _Grown[set[str]] = _Grown(set, asked and (lambda: asked(lambda one: set(one.lists))))
        self._quarantine: _Grown[list[tuple[int, ListedObject]]] = _Grown(
            list, asked and (lambda: asked(lambda one: list(one.quarantine)))
        )

    @property
    def fenced(self) -> set[str]:
        """Attempts declared dead."""
        return self._fenced.whole

    @property
    def moved(self) -> set[tuple[int, int]]:
        """(commit, ordinal) of quarantined entries that were taken out again."""
        return self._moved.whole

    @property
    def lists(self) -> set[str]:
        """Keys of all file lists."""
        return self._lists.whole

    @property
    def quarantine(self) -> list[tuple[int, ListedObject]]:
        """(commit, file) of every quarantine file, in commit order."""
        return self._quarantine.whole

    def apply(self, commit: Commit) -> None:
        """Fold the next commit in.

        Raises:
            IntegrityError: It is not the next one of this chain, or it contradicts the state.
        """
        key = layout.commit(commit.sequence)
        if commit.sequence != self.sequence + 1:
            raise IntegrityError(f"{key}: expected sequence {self.sequence + 1}, found {commit.sequence}")
        if commit.previous != self.digest:
            raise IntegrityError(
                f"{key}: expected the previous commit to be {self.digest or 'none'}, found {commit.previous}",
                hint="the chain is broken: run `archiver verify`",
            )
        said = commit.content
        try:
            self.files.remove(said.removed, commit.sequence)
        except KeyError as error:
            raise IntegrityError(
                f"{key}: removes {error.args[0]}, which is not live", hint="run `archiver verify`"
            ) from None
        for file in said.added:
            try:
                self.files.add(file, commit.sequence)
            except KeyError:
                raise IntegrityError(
                    f"{key}: adds {file.key}, which is there already", hint="run `archiver verify`"
                ) from None
        self._quarantine.add((commit.sequence, file) for file in said.quarantined)
        self._lists.add(listed.key for listed in said.lists)
        self._moved.add(said.moved)
        self._fenced.add(said.fenced)
        self.attempts.note(said.attempt, commit.sequence)
        self.batches.note(said.batch, commit.sequence)
        if said.source.get("after") is not None:
            self.cursors[said.source["name"]] = said.source["after"]
        if said.operation == "append":
            self.totals += said.counts
        elif said.operation == "requeue":  # moved out of the quarantine, not read anew
            back = said.counts
            self.totals += Counts(0, back.archived, back.supplements, back.duplicates, -len(said.moved))
        if said.archive is not None:
            self.archive = said.archive
        if said.hold is not None:
            self.holds.pop(said.hold.name, None)
            if not said.hold.released:
                self.holds[said.hold.name] = said.hold
        self.sequence, self.digest = commit.sequence, commit.digest
        self.committed_us, self.oldest_readable = commit.committed_us, commit.oldest_readable

    def reachable(self) -> set[str]:
        """Return every key that this snapshot needs, commits apart.

        Data files that compaction or expiry removed stay reachable while a snapshot that
        names them may still be asked for.
        """
        kept = {
            key for key, removed_by in self.files.superseded().items() if removed_by > self.oldest_readable
        }
        return kept | self.files.keys() | {file.key for _, file in self.quarantine} | self.lists

    def in_quarantine(self) -> int:
        """Return how many entries are in quarantine now."""
        return self.totals.quarantined
