"""The ledger's commits from the first to the last, whatever state they are in.

A commit's bytes are held against themselves (canonical JSON of a commit, its own
sequence) and against the `previous` of the next one. Where a link does not fit, the commit
whose bytes nothing else confirms is to blame; if that may be either, both are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import rfc8785

from archiver import layout
from archiver.errors import ArchiveNotFoundError, IntegrityError, ObjectNotFoundError, StoreError
from archiver.ledger.entry import Commit, DataFile, ListedObject, decode, decode_list, digest_of
from archiver.ledger.shape import archive_problem
from archiver.progress import Progress
from archiver.store.base import Store
from archiver.verify.report import Findings

_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Link:
    """One commit as it lies there.

    Attributes:
        digest: Of its bytes; empty if the store did not give them.
        commit: What it says, `added` filled from its lists; None where that cannot be told.
        problem: What is wrong with its bytes, taken alone; else empty.
        lists_known: Whether every list that it names was read, so that `added` is all there is.
    """

    sequence: int
    digest: str
    commit: Commit | None
    problem: str = ""
    lists_known: bool = True


@dataclass(slots=True)
class Chain:
    """What stays of the commits once they were folded: little, since there may be many.

    Attributes:
        digests, previous, problems: By sequence.
        whole: No commit is missing, none is altered, every link fits.
    """

    digests: dict[int, str] = field(default_factory=dict)
    previous: dict[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    blamed: set[int] = field(default_factory=set)
    head: int = -1

    def keep(self, link: Link) -> None:
        """Take note of the next commit that is there."""
        self.head = link.sequence
        self.digests[link.sequence] = link.digest
        if link.commit is not None:
            self.previous[link.sequence] = link.commit.previous
        if link.problem:
            self.problems[link.sequence] = link.problem

    def check(self, findings: Findings) -> None:
        """Report gaps, commits that are wrong in themselves, and links that do not fit."""
        self._gaps(findings)
        for sequence, problem in self.problems.items():
            self._blame(sequence, findings, "the canonical JSON of a commit", problem)
        for sequence, previous in self.previous.items():
            if sequence == 0:
                if previous:
                    self._blame(0, findings, "no previous commit", previous)
                continue
            found = self.digests.get(sequence - 1)
            if found and found != previous and sequence not in self.problems:
                self._misfit(sequence - 1, previous, found, findings)

    def _misfit(self, sequence: int, named: str, found: str, findings: Findings) -> None:
        after = sequence + 1
        if sequence in self.problems:
            return  # blamed already, and that is why the link does not fit
        confirmed = self.previous.get(after + 1)
        if confirmed is not None and confirmed != self.digests[after]:
            # What stands behind it says that the *next* one was altered; its word is worth nothing.
            return
        doubt = "" if confirmed is not None else "; nothing confirms the next commit, perhaps it was altered"
        self._blame(sequence, findings, f"{named}, as the next commit names it", found + doubt)
        if confirmed is None:
            self._blame(
                after, findings, f"the previous commit to be {found}", f"{named}; one of both was altered"
            )

    def _blame(self, sequence: int, findings: Findings, expected: str, found: str) -> None:
        self.blamed.add(sequence)
        findings.damage("altered", layout.commit(sequence), expected, found)

    def _gaps(self, findings: Findings) -> None:
        before = -1
        for sequence in self.digests:
            absent = sequence - before - 1
            if absent:
                more = f", nor are the {absent - 1} after it" if absent > 1 else ""
                found = f"it is not there{more}; commit {sequence} is"
                findings.damage("missing", layout.commit(before + 1), "a commit", found)
                self.blamed.update((before + 1, sequence - 1))
            before = sequence

    def hold_against(self, expected: Sequence[tuple[int, str]], findings: Findings) -> None:
        """Report where the chain is not the one that was written down earlier."""
        for sequence, digest in expected:
            found = self.digests.get(sequence)
            key = layout.commit(sequence)
            if sequence > self.head:
                findings.damage("truncated", key, digest, f"the ledger ends at commit {self.head}")
            elif found is not None and found != digest:
                following = self.previous.get(sequence + 1)
                if sequence in self.blamed or (following is not None and following != found):
                    findings.damage("altered", key, f"{digest}, as was written down", found)
                else:
                    findings.damage("forked", key, digest, found)


def read_links(store: Store, findings: Findings, threads: int, progress: Progress) -> Iterator[Link]:
    """Yield every commit that is there, in order.

    Raises:
        ArchiveNotFoundError: There is none.
        StoreError: The ledger cannot be listed.
    """
    sequences = sorted(
        number for info in store.list(layout.LEDGER) if (number := layout.sequence_of(info.key)) is not None
    )
    with ThreadPoolExecutor(threads) as readers:
        for start in range(0, len(sequences), _AT_ONCE):
            part = sequences[start : start + _AT_ONCE]
            for link in readers.map(lambda number: _read(store, number, findings), part):
                if link is not None:
                    progress.advance(rows=1)
                    yield link
    # A listing may lag behind on some stores, and runs go on; the key itself tells.
    following = sequences[-1] + 1 if sequences else 0
    while (link := _read(store, following, findings)) is not None:
        yield link
        following += 1
    if following == 0:
        raise ArchiveNotFoundError(
            f"{store.location}: no archive is here ({layout.commit(0)} is missing)",
            hint="check the location and that the disk is mounted",
        )


def _read(store: Store, sequence: int, findings: Findings) -> Link | None:
    """Read one commit and its lists; None where there is none."""
    key = layout.commit(sequence)
    try:
        content = store.get(key)
    except ObjectNotFoundError:
        return None
    except StoreError as error:
        findings.cannot_read(key, error)
        return Link(sequence, "", None, lists_known=False)
    digest = digest_of(content)
    try:
        commit = decode(content, key)
    except IntegrityError as error:
        return Link(sequence, digest, None, error.message.removeprefix(f"{key}: "), lists_known=False)
    if commit.sequence != sequence:
        return Link(sequence, digest, None, f"sequence {commit.sequence}", lists_known=False)
    said = commit.content.archive
    problem = "" if said is None else archive_problem(said)
    if not _is_canonical(content):
        problem = f"other bytes of the same meaning ({digest})"
    files, known = _with_lists(store, commit, findings)
    whole = replace(commit, content=replace(commit.content, added=files))
    return Link(sequence, digest, whole, problem, lists_known=known)


def _is_canonical(content: bytes) -> bool:
    try:
        return rfc8785.dumps(json.loads(content)) == content
    except (ValueError, RecursionError):
        return False


def _with_lists(store: Store, commit: Commit, findings: Findings) -> tuple[tuple[DataFile, ...], bool]:
    """Return the files that a commit adds, and whether these are all."""
    said = commit.content
    if not said.lists:
        return said.added, True
    files: list[DataFile] = []
    known = True
    for listed in said.lists:
        if misnamed(listed.key, commit, layout.LISTS):
            known = False  # reported with the other names of the commit
            continue
        try:
            files.extend(decode_list(store.get(listed.key), listed))
            continue
        except ObjectNotFoundError:
            findings.damage("missing", listed.key, f"a list of {listed.entries} files", "it is not there")
        except IntegrityError as error:
            findings.damage("altered", listed.key, *_expected_found(error, listed))
        except StoreError as error:
            findings.cannot_read(listed.key, error)
        known = False
    return tuple(files), known


def _expected_found(error: IntegrityError, listed: ListedObject) -> tuple[str, str]:
    return listed.digest, error.message.removeprefix(f"{listed.key}: ")


def misnamed(key: str, commit: Commit, folder: str | None = None) -> bool:
    """Whether `key` is no name that this commit's attempt can have given.

    Args:
        folder: Where it must lie; None for a data file.
    """
    said = commit.content
    if layout.origin_of(key) != layout.Origin(said.batch, said.attempt):
        return True
    if folder is not None:
        return key.rpartition("/")[0] + "/" != folder
    return not is_data_key(key)


def is_data_key(key: str) -> bool:
    """Whether `key` is one that `layout.data_file` makes."""
    try:
        partition = layout.partition_of(key)
        return partition is not None and f"/workspace={layout.escape(partition.workspace)}/" in key
    except ValueError:
        return False
