"""The commits, folded: what must lie in the store, and whether each commit fits those before it.

The same state as `ledger.snapshot`, which stops at the first contradiction; this goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archiver import clock, layout
from archiver.ledger.entry import Commit, Content, DataFile, Hold, ListedObject
from archiver.verify.chain import Link, misnamed
from archiver.verify.report import Findings

DEFAULT_WINDOW_DAYS = 31
_TAKES_IN = ("append", "requeue")
# Which operations may say what: what another says would change an archive that nobody expects to change.
_SAID_BY = {
    "removed": ("compact", "expire"),
    "quarantined": ("append",),
    "moved": ("requeue",),
    "fenced": ("fence",),
}


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
        originals: Of every file that a compaction added: the keys of the files in which its rows
            were first archived; None where the commits do not tell.
        holds: Legal holds in force, by name.
        quarantine: (commit, file) of every quarantine file.
        lists: Every file list.
        attempts: (batch, attempt) of every commit.
        untold: Attempts whose commit does not tell all its objects, since a list is damaged.
        complete: No commit is missing or unreadable so far, so contradictions mean something.
        moved: (commit that moved, commit, ordinal) of requeued entries.
    """

    files: dict[str, Named] = field(default_factory=dict)
    originals: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
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

    def originals_of(self, key: str) -> dict[str, DataFile] | None:
        """Return the files in which the rows of a compacted file were first archived, by stem.

        None where that is not known.
        """
        keys = self.originals[key]
        if keys is None:
            return None
        return {layout.stem_of(one): self.files[one].file for one in keys}

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
        _check_counts(said, key, findings)
        if said.operation == "compact":
            self._compact(said, removed, key, findings, known=link.lists_known)
        elif link.lists_known:
            _check_rows(said, key, findings)
        self._move(said, key, link.sequence, findings)
        self.attempts.add(origin)
        self.fenced.update(said.fenced)
        self.operations[said.operation] += 1
        self.committed_us, self.oldest_readable = commit.committed_us, commit.oldest_readable
        if said.archive is not None and link.sequence == 0:
            self.archive = said.archive
        if said.hold is not None:
            self.holds.pop(said.hold.name, None)
            if not said.hold.released:
                self.holds[said.hold.name] = said.hold

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
        first = commit.sequence == 0
        if first != (said.operation == "init") or first != (said.archive is not None):
            findings.damage("altered", key, "`init` at the first commit, and only there", said.operation)
        for name, operations in _SAID_BY.items():
            if getattr(said, name) and said.operation not in operations:
                findings.damage(
                    "altered", key, f"`{name}` of {' or '.join(operations)} alone", said.operation
                )
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
            expected = f"the cursor of {name} before to be {known!r:.100}"
            findings.damage("altered", key, expected, f"{before!r:.100}")
        self.cursors[name] = after

    def _remove(self, said: Content, key: str, sequence: int, findings: Findings) -> list[DataFile]:
        """Take removed files out, and return them."""
        removed = []
        for gone in said.removed:
            named = self.files.get(gone)
            if named is not None and named.removed_by is None:
                self.files[gone] = named._replace(removed_by=sequence)
                removed.append(named.file)
                if said.operation == "expire":
                    self._check_holds(named.file, key, findings)
            elif self.complete:
                findings.damage("altered", key, "to remove what is live", f"it removes {gone}, which is not")
        return removed

    def _check_holds(self, file: DataFile, key: str, findings: Findings) -> None:
        for hold in self.holds.values():
            if self.complete and hold.covers(file):
                expected = f"nothing to expire that the hold {hold.name} covers"
                findings.damage("altered", key, expected, f"it removes {file.key}")

    def _compact(
        self, said: Content, removed: list[DataFile], key: str, findings: Findings, *, known: bool
    ) -> None:
        """Hold what a compaction adds against what it removes, partition by partition."""
        gone: dict[layout.Partition, list[DataFile]] = defaultdict(list)
        new: dict[layout.Partition, list[DataFile]] = defaultdict(list)
        for files, by_partition in ((removed, gone), (said.added, new)):
            for file in files:
                by_partition[file.partition].append(file)
        known = known and self.complete
        for place in sorted({*gone, *new}, key=str) if known else ():
            told = f"{place.dataset} of {place.workspace!r:.80} on {place.dt}"
            before, after = (sum(file.rows for file in files[place]) for files in (gone, new))
            _expect(f"rows of {told}, the same before and after,", before, after, key, findings)
            if len(new[place]) > 1:
                expected, found = f"one new file of {told}", f"{len(new[place])}"
                findings.damage("altered", key, expected, found)
        for place, files in new.items():
            sure = known and len(files) == 1
            for file in files:
                self.originals[file.key] = self._originals(gone[place]) if sure else None

    def _originals(self, files: list[DataFile]) -> tuple[str, ...] | None:
        """Return where the rows of all `files` were first archived."""
        found: list[str] = []
        for file in files:
            keys = self.originals.get(file.key, (file.key,))
            if keys is None:
                return None
            found += keys
        return tuple(found)

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
            if name in self.moved:
                found = f"it is moved twice, by commits {self.moved[name]} and {sequence}"
                expected = f"quarantined entry {name[0]}:{name[1]} to be moved once"
                findings.damage("duplicated", key, expected, found)
            self.moved[name] = sequence


def _listed(said: Content) -> Iterable[tuple[ListedObject, str]]:
    yield from ((one, layout.LISTS) for one in said.lists)
    yield from ((one, layout.QUARANTINE) for one in said.quarantined)


def _check_counts(said: Content, key: str, findings: Findings) -> None:
    """Hold a commit's counts against each other and against the objects that it names."""
    counts = said.counts
    total = counts.archived + counts.supplements + counts.duplicates + counts.quarantined
    _expect("read = archived + supplements + duplicates + quarantined =", total, counts.read, key, findings)
    if said.operation == "requeue":
        _expect("read = entries moved =", len(said.moved), counts.read, key, findings)
    elif said.operation != "append":
        _expect("read, by an operation that reads nothing,", 0, counts.read, key, findings)
    entries = sum(one.entries for one in said.quarantined)
    _expect("quarantined = entries of its quarantine files =", entries, counts.quarantined, key, findings)


def _check_rows(said: Content, key: str, findings: Findings) -> None:
    """Hold a commit's counts against the rows of the files that it adds."""
    rows: Counter[str] = Counter()
    for file in said.added:
        rows[file.key.partition("/")[0]] += file.rows
    if said.operation in _TAKES_IN:
        archived = rows["events"] + rows["alerts"]
        _expect("archived = rows of events and alerts =", archived, said.counts.archived, key, findings)
        supplements = rows["supplements"]
        _expect("supplements = rows of supplements =", supplements, said.counts.supplements, key, findings)
    elif rows:
        found = f"{len(said.added)} files"
        findings.damage("inserted", key, f"no data files in a commit of operation {said.operation}", found)


def _expect(what: str, expected: int, found: int, key: str, findings: Findings) -> None:
    if expected != found:
        findings.damage("miscounted", key, f"{what} {expected}", str(found))
