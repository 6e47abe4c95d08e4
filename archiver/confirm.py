"""A second look before anything is deleted: at every commit, and at no cache.

Which objects may go is found out with checkpoints, which anybody may have written. What is
about to be deleted is therefore held against the commits themselves, from the first to the
head; they are chained, and `verify` proves them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from archiver import layout
from archiver.errors import IntegrityError
from archiver.ledger.entry import Commit, DataFile, Hold
from archiver.ledger.ledger import Ledger
from archiver.progress import Progress, Silent

_READERS: Final = 16
_AT_ONCE: Final = 256
_HINT: Final = "nothing was deleted; run `archiver verify`, then `archiver checkpoint --rebuild`, and again"


@dataclass(slots=True)
class _Known:
    """What the commits say of the objects that are to go."""

    added: dict[str, DataFile] = field(default_factory=dict)
    removed_by: dict[str, int] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    attempts: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    holds: dict[str, Hold] = field(default_factory=dict)
    oldest_readable: int = 0

    def apply(self, commit: Commit, keys: Collection[str]) -> None:
        said = commit.content
        self.added.update((file.key, file) for file in said.added if file.key in keys)
        for key in said.removed:
            if key in keys:
                self.removed_by[key] = commit.sequence
                if said.operation != "compact":
                    self.expired.add(key)
        self.listed.update(one.key for one in (*said.quarantined, *said.lists) if one.key in keys)
        self.attempts.add(said.attempt)
        self.batches.add(said.batch)
        self.fenced.update(said.fenced)
        if said.hold is not None:
            self.holds[said.hold.name] = said.hold
        self.oldest_readable = commit.oldest_readable

    def objection(self, key: str) -> str | None:
        """Say why `key` must stay; None where it may go."""
        if key in self.listed:
            return "a commit names it"
        return self._needed(self.added[key]) if key in self.added else self._alive(key)

    def _needed(self, file: DataFile) -> str | None:
        """Say which snapshot or hold needs a file that was added."""
        removed_by = self.removed_by.get(file.key)
        if removed_by is None:
            return "it is live"
        if removed_by > self.oldest_readable:
            return f"commit {removed_by - 1} may still be asked for"
        holds = self.holds.items() if file.key in self.expired else ()
        return next((f"the hold {name} covers it" for name, hold in holds if hold.covers(file)), None)

    def _alive(self, key: str) -> str | None:
        """Say why a commit may yet name an object that none names."""
        origin = layout.origin_of(key)
        if origin is None:
            return "it is no object of an attempt"
        if origin.attempt in self.attempts:
            return "its attempt was committed"
        is_dead = origin.attempt in self.fenced or origin.batch in self.batches
        return None if is_dead else "its attempt may still commit"


def confirm(ledger: Ledger, keys: Collection[str], progress: Progress | None = None) -> None:
    """Return if all of `keys` may be deleted by what the commits up to the head say.

    Memory is that of the keys and of each commit's names; every commit is read.

    Args:
        ledger: Followed to the head, behind the last fence.

    Raises:
        IntegrityError: One must stay, or the chain is broken. Nothing may be deleted then.
        StoreError: A commit could not be read.
    """
    if not keys:
        return
    wanted, known, telling = frozenset(keys), _Known(), progress or Silent()
    telling.start("reading every commit", None)
    try:
        for commit in _chain(ledger):
            known.apply(commit, wanted)
            telling.advance(rows=1)
    finally:
        telling.finish()
    for key in keys:
        if objection := known.objection(key):
            raise IntegrityError(
                f"{key}: was about to be deleted, but {objection}, by what the commits say", hint=_HINT
            )


def _chain(ledger: Ledger) -> Iterator[Commit]:
    """Yield every commit up to the head, each held against the one before it."""
    head, before = ledger.snapshot, ""
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, head.sequence + 1, _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, head.sequence + 1))
            for commit in readers.map(ledger.read, part):
                if commit.previous != before:
                    raise IntegrityError(
                        f"{layout.commit(commit.sequence)}: expected the previous commit to be "
                        f"{before or 'none'}, found {commit.previous}",
                        hint=_HINT,
                    )
                before = commit.digest
                yield commit
    if before != head.digest:
        raise IntegrityError(
            f"{layout.commit(head.sequence)}: expected {head.digest}, found {before}", hint=_HINT
        )
