"""The ledger, folded: what is live after a commit, and what must be remembered to go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from archiver import layout
from archiver.errors import IntegrityError
from archiver.ledger.entry import Commit, Counts, Hold, ListedObject
from archiver.ledger.files import Files


@dataclass(slots=True)
class Snapshot:
    """The state after the commit `sequence`. `apply` moves it on by one.

    Attributes:
        sequence: Of the newest commit; -1 before the first.
        digest: Of the newest commit.
        committed_us: Of the newest commit, in microseconds since 1970.
        archive: What the first commit says the archive is.
        files: The live data files.
        quarantine: (commit, file) of every quarantine file, in commit order.
        batches: Batch -> the commit that holds it.
        attempts: Attempts that were committed.
        fenced: Attempts declared dead.
        cursors: Source name -> how far it was read.
        moved: (commit, ordinal) of quarantined entries that were taken out again.
        holds: Legal holds in force, by name.
        totals: Sum of all commits' counts.
    """

    sequence: int = -1
    digest: str = ""
    committed_us: int = 0
    oldest_readable: int = 0
    archive: dict[str, Any] = field(default_factory=dict)
    files: Files = field(default_factory=Files)
    quarantine: list[tuple[int, ListedObject]] = field(default_factory=list)
    batches: dict[str, int] = field(default_factory=dict)
    attempts: set[str] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    cursors: dict[str, Any] = field(default_factory=dict)
    moved: set[tuple[int, int]] = field(default_factory=set)
    holds: dict[str, Hold] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)
    totals: Counts = Counts()

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
        for gone in said.removed:
            try:
                self.files.remove(gone, commit.sequence)
            except KeyError:
                raise IntegrityError(f"{key}: removes {gone}, which is not live") from None
        for file in said.added:
            try:
                self.files.add(file, commit.sequence)
            except KeyError:
                raise IntegrityError(f"{key}: adds {file.key}, which is there already") from None
        self.quarantine.extend((commit.sequence, file) for file in said.quarantined)
        self.lists.update(listed.key for listed in said.lists)
        self.moved.update(said.moved)
        self.fenced.update(said.fenced)
        self.attempts.add(said.attempt)
        self.batches[said.batch] = commit.sequence
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
