"""The commits, folded: what must lie in the store, and whether each commit fits those before it.

The same state as `ledger.snapshot`, which stops at the first contradiction; this goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archiver import clock, layout
from archiver.ledger.entry import Commit, Content, DataFile, ListedObject
from archiver.verify.chain import Link, misnamed
from archiver.verify.report import Findings

DEFAULT_WINDOW_DAYS = 31
_TAKES_IN = ("append", "requeue")


class Named(NamedTuple):
    """A data file, and the commits that added it and, perhaps, removed it."""

    file: DataFile
    added_by: int
    removed_by: int | None = None


@dataclass(slots=True)
class State:
    """What the commits say, up to the last that could be read.

    Attributes:
        files: Every data file that any commit added, by key.
        quarantine: (commit, file) of every quarantine file.
        lists: Every file list.
        attempts: (batch, attempt) of every commit.
        untold: Attempts whose commit does not tell all its objects, since a list is damaged.
        complete: No commit is missing or unreadable so far, so contradictions mean something.
        moved: (commit that moved, commit, ordinal) of requeued entries.
    """

    files: dict[str, Named] = field(default_factory=dict)
    quarantine: list[tuple[int, ListedObject]] = field(default_factory=list)
    lists: dict[str, ListedObject] = field(default_factory=dict)
    attempts: set[layout.Origin] = field(default_factory=set)
    untold: set[layout.Origin] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    batches: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, Any] = field(default_factory=dict)
    moved: dict[tuple[int, int], int] = field(default_factory=dict)
    archive: dict[str, Any] = field(default_factory=dict)
    operations: Counter[str] = field(default_factory=Counter)
    oldest_readable: int = 0
    committed_us: int = 0
    sequence: int = -1
    complete: bool = True

    @property
    def window_days(self) -> int:
        """How far apart two deliveries of one event may lie."""
        days = self.archive.get("identity_window_days")
        return days if type(days) is int and days >= 0 else DEFAULT_WINDOW_DAYS

    def may_be_absent(self, named: Named) -> bool:
        """Whether the file is of no snapshot that may still be asked for."""
        return named.removed_by is not None and named.removed_by <= self.oldest_readable

    def apply(self, link: Link, findings: Findings) -> None:
        """Fold the next commit in; report what contradicts the state."""
        if link.sequence != self.sequence + 1 or link.commit is None:
            self.complete = False
        self.sequence = link.sequence
        if link.commit is None:
            return
        commit, said, key = link.commit, link.commit.content, layout.commit(link.sequence)
        self._check_place(commit, key, findings)
        origin = layout.Origin(said.batch, said.attempt)
        if not link.lists_known:
            self.untold.add(origin)
            self.complete = False
        removed = self._remove(said, key, link.sequence, findings)
        self._add(commit, key, findings)
        _check_counts(said, key, removed, link.lists_known, findings)
        self._move(said, key, link.sequence, findings)
        self.attempts.add(origin)
        self.fenced.update(said.fenced)
        self.operations[said.operation] += 1
        self.committed_us, self.oldest_readable = commit.committed_us, commit.oldest_readable
        if said.archive is not None and link.sequence == 0:
            self.archive = said.archive

    def _check_place(self, commit: Commit, key: str, findings: Findings) -> None:
        """Check what a commit must agree with, given those before it."""
        said = commit.content
        if commit.committed_us < self.committed_us:
            findings.damage(
                "altered",
                key,
                f"committed_at not before {clock.to_text(self.committed_us)}",
                clock.to_text(commit.committed_us),
            )
        if not self.oldest_readable <= commit.oldest_readable <= commit.sequence:
            expected = f"oldest_readable from {self.oldest_readable} to {commit.sequence}"
            findings.damage("altered", key, expected, str(commit.oldest_readable))
        if (commit.sequence == 0) != (said.operation == "init") or (said.archive is None) != (commit.sequence > 0):
            findings.damage("altered", key, "`init` at the first commit, and only there", said.operation)
        if said.attempt in self.fenced:
            expected = "no commit of an attempt that was declared dead"
            findings.damage("inserted", key, expected, f"a commit of attempt {said.attempt}")
        earlier = self.batches.setdefault(said.batch, commit.sequence)
        if earlier != commit.sequence:
            found = f"batch {said.batch}, which is in commit {earlier}"
            findings.damage("duplicated", key, "each batch in one commit", found)
        self._check_cursor(said, key, findings)

    def _check_cursor(self, said: Content, key: str, findings: Findings) -> None:
        after = said.source.get("after")
        if after is None:
            return
        name = str(said.source.get("name"))
        known, before = self.cursors.get(name), said.source.get("before")
        if self.complete and known != before:
            findings.damage("altered", key, f"the cursor of {name} before to be {known!r:.100}", f"{before!r:.100}")
        self.cursors[name] = after

    def _remove(self, said: Content, key: str, sequence: int, findings: Findings) -> Counter[str]:
        """Take removed files out; return how many rows they held, by dataset."""
        rows: Counter[str] = Counter()
        for gone in said.removed:
            named = self.files.get(gone)
            if named is not None and named.removed_by is None:
                self.files[gone] = named._replace(removed_by=sequence)
                rows[named.file.partition.dataset] += named.file.rows
            elif self.complete:
                findings.damage("altered", key, "to remove what is live", f"it removes {gone}, which is not")
        return rows

    def _add(self, commit: Commit, key: str, findings: Findings) -> None:
        said, sequence = commit.content, commit.sequence
        own = f"names that its attempt {said.batch}-{said.attempt} gave"
        for file in said.added:
            if misnamed(file.key, commit):
                findings.damage("altered", key, own, file.key)
            elif file.key in self.files:
                found = f"commits {self.files[file.key].added_by} and {sequence} add it"
                findings.damage("duplicated", file.key, "to be added once", found)
            else:
                self.files[file.key] = Named(file, sequence)
        for listed, folder in _listed(said):
            if misnamed(listed.key, commit, folder):
                findings.damage("altered", key, own, listed.key)
            elif folder == layout.LISTS:
                self.lists[listed.key] = listed
            else:
                self.quarantine.append((sequence, listed))

    def _move(self, said: Content, key: str, sequence: int, findings: Findings) -> None:
        for name in said.moved:
            earlier = self.moved.setdefault(name, sequence)
            if earlier != sequence or said.moved.count(name) > 1:
                entry = f"{name[0]}:{name[1]}"
                found = f"commit {earlier} moved it too" if earlier != sequence else "it is moved twice"
                findings.damage("duplicated", key, f"quarantined entry {entry} to be moved once", found)


def _listed(said: Content) -> Iterable[tuple[ListedObject, str]]:
    yield from ((one, layout.LISTS) for one in said.lists)
    yield from ((one, layout.QUARANTINE) for one in said.quarantined)


def _check_counts(
    said: Content, key: str, removed: Counter[str], lists_known: bool, findings: Findings
) -> None:
    counts = said.counts

    def expect(what: str, expected: int, found: int) -> None:
        if expected != found:
            findings.damage("miscounted", key, f"{what} {expected}", str(found))

    total = counts.archived + counts.supplements + counts.duplicates + counts.quarantined
    expect("read = archived + supplements + duplicates + quarantined =", total, counts.read)
    if said.operation == "requeue":
        expect("read = entries moved =", len(said.moved), counts.read)
    elif said.operation != "append":
        expect("read (nothing is read) =", 0, counts.read)
    expect("quarantined = entries of its files =", sum(one.entries for one in said.quarantined), counts.quarantined)
    if not lists_known:
        return
    expect("files in its lists =", sum(one.entries for one in said.lists) or len(said.added), len(said.added))
    rows: Counter[str] = Counter()
    for file in said.added:
        partition = layout.partition_of(file.key) if not _is_odd(file.key) else None
        rows[partition.dataset if partition else "?"] += file.rows
    if said.operation in _TAKES_IN:
        expect("archived = rows of events and alerts =", rows["events"] + rows["alerts"], counts.archived)
        expect("supplements = rows of supplements =", rows["supplements"], counts.supplements)
    elif said.operation == "compact":
        for dataset in sorted(rows.keys() | removed.keys()):
            expect(f"rows of {dataset}, the same before and after =", removed[dataset], rows[dataset])


def _is_odd(key: str) -> bool:
    try:
        layout.partition_of(key)
    except ValueError:
        return True
    return False
