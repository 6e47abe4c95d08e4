"""One attempt at a batch: read, validate, identify, write. What comes out can be committed.

Rows are handled in chunks of bounded size, so that memory does not depend on the batch:
each chunk is identified against the snapshot and against the chunks before it, then
written. Judging pauses meanwhile: both keep all processors busy, and one chunk in memory
may be twice as large as each of two, which makes half as many files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from archiver import layout, quarantine
from archiver.archive import Archive
from archiver.block import Rejection
from archiver.errors import ArchiverError
from archiver.index.known import Background
from archiver.judging import Judged
from archiver.ledger.entry import (
    LONGEST_INLINE_LIST,
    Content,
    Counts,
    DataFile,
    ListedObject,
    digest_of,
    encode_list,
)
from archiver.partition import Arranged, arrange
from archiver.progress import Progress
from archiver.store.base import Store
from archiver.write import Writer, Written

CHUNK_BYTES: Final = 256 << 20
_REJECTION_BYTES: Final = 1_500  # of the objects around a body; a body may be a single digit
_LIST_ENTRIES: Final = 10_000


@dataclass(slots=True)
class Result:
    """What an attempt wrote, and what became of what it read.

    Attributes:
        elements: How many were read of each input, by its number.
        refused: Rejections that were not written to quarantine, because they are there already.
    """

    added: list[DataFile] = field(default_factory=list)
    quarantined: list[ListedObject] = field(default_factory=list)
    read: int = 0
    archived: int = 0
    supplements: int = 0
    duplicates: int = 0
    rejected: int = 0
    judged: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    elements: dict[int, int] = field(default_factory=dict)
    refused: list[Rejection] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        return Counts(self.read, self.archived, self.supplements, self.duplicates, self.rejected)


@dataclass(slots=True)
class _Chunk:
    tables: dict[str, list[Arranged]] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    bytes: int = 0

    def add(self, judged: Judged) -> None:
        for dataset, arranged in judged.tables.items():
            self.tables.setdefault(dataset, []).append(arranged)
            self.bytes += arranged.rows.nbytes
        self.rejections.extend(judged.rejections)
        self.bytes += sum(len(one.body) + _REJECTION_BYTES for one in judged.rejections)


class Attempt:
    """One try at a batch, against the snapshot that the archive's ledger is at.

    Attributes:
        name: Random, sorted by start; in the name of everything it writes.
        seen: The head's sequence against which identities are decided.
        result: Grows while it works.
    """

    def __init__(
        self,
        archive: Archive,
        batch: str,
        *,
        source: str,
        inputs: Sequence[str],
        from_quarantine: bool = False,
    ) -> None:
        self.name = layout.new_attempt()
        self.seen = archive.ledger.snapshot.sequence
        self.result = Result()
        self._archive = archive
        self._batch = batch
        self._source = source
        self._inputs = inputs
        self._from_quarantine = from_quarantine
        self._background = Background(archive.ledger.snapshot)

    def work(self, judged: Iterable[Judged], progress: Progress, *, chunk_bytes: int = CHUNK_BYTES) -> Result:
        """Take in everything that was judged, and write it.

        When this returns, every file is durable; none is reachable until it is committed.

        Raises:
            FileVanishedError: A file of the snapshot is gone, which a newer head explains: try
                anew (`FileVanishedError.hold_against`).
        """
        archive = self._archive
        archive.identities.prepare(self._background)
        with Writer(archive.store, self._batch, self.name, archive.encoding) as writer:
            for chunk in _chunks(judged, self.result, progress, chunk_bytes):
                self._flush(chunk, writer)
        return self.result

    def _flush(self, chunk: _Chunk, writer: Writer) -> None:
        result = self.result
        rejections = chunk.rejections
        for dataset in ("events", "alerts"):
            arranged = chunk.tables.pop(dataset, [])
            if not arranged:
                continue
            rows = pa.Table.from_batches([part.rows for part in arranged])
            decision = self._archive.identities.decide(rows, dataset, self._background)
            del rows
            rejections.extend(decision.conflicts)
            result.duplicates += decision.duplicates
            result.archived += int(decision.new.sum())
            result.supplements += decision.supplements.num_rows
            self._write(writer.write(arranged, dataset, decision.new))
            supplements = [arrange(part) for part in decision.supplements.to_batches()]
            self._write(writer.write(supplements, "supplements"))
        pa.default_memory_pool().release_unused()
        self._keep(rejections)

    def _write(self, files: Iterable[Written]) -> None:
        for written in files:
            self.result.added.append(written.file)
            self._background.add(written.file)
            self._archive.identities.remember(written.file, written.ids)

    def _keep(self, rejections: list[Rejection]) -> None:
        """Write rejections to quarantine files of bounded size."""
        if self._from_quarantine:
            self.result.refused.extend(rejections)
            self.result.read -= len(rejections)
            return
        self.result.rejected += len(rejections)
        for one in rejections:
            self.result.reasons[one.reason] = self.result.reasons.get(one.reason, 0) + 1
        for part in _by_size(sorted(rejections, key=lambda one: one.ordinal)):
            number = len(self.result.quarantined)
            key = layout.quarantine_file(self._batch, self.name, number)
            content = quarantine.encode(part, self._inputs, self._source)
            self._archive.store.put(key, content)
            self.result.quarantined.append(ListedObject(key, digest_of(content), len(content), len(part)))

    def lists(self) -> tuple[ListedObject, ...]:
        """Write the list of files beside the commit, if it is too long to stand in it."""
        files = tuple(self.result.added)
        if len(files) <= LONGEST_INLINE_LIST:
            return ()
        return write_lists(self._archive.store, files, self._batch, self.name)

    def collides(self, commits: Sequence[object]) -> bool:
        """Say whether `commits` added an identity that this attempt adds or supplements."""
        return self._archive.identities.collides(
            commits,  # type: ignore[arg-type]
            {file.key: file for file in self.result.added},
        )

    def content(self, **parts: object) -> Content:
        """Return what is to be committed.

        Raises:
            ArchiverError: The counts do not add up: a fault of this program, and nothing is committed.
        """
        counts = self.result.counts
        if not counts.adds_up() or sum(one.rows for one in self.result.added) != (
            counts.archived + counts.supplements
        ):
            raise ArchiverError(f"batch {self._batch}: the counts do not add up: {counts.to_json()}")
        return Content(
            batch=self._batch,
            attempt=self.name,
            added=tuple(self.result.added),
            lists=self.lists(),
            quarantined=tuple(self.result.quarantined),
            counts=counts,
            **parts,  # type: ignore[arg-type]
        )


def write_lists(
    store: Store, files: Sequence[DataFile], batch: str, attempt: str
) -> tuple[ListedObject, ...]:
    """Put `files` into list objects named by batch and attempt, and return them in order."""
    listed = []
    for number, start in enumerate(range(0, len(files), _LIST_ENTRIES)):
        part = tuple(files[start : start + _LIST_ENTRIES])
        key, content = layout.file_list(batch, attempt, number), encode_list(part)
        store.put(key, content)
        listed.append(ListedObject(key, digest_of(content), len(content), len(part)))
    return tuple(listed)


def _chunks(
    judged: Iterable[Judged], result: Result, progress: Progress, chunk_bytes: int
) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for one in judged:
        chunk.add(one)
        result.read += one.read
        result.elements[one.input] = result.elements.get(one.input, 0) + one.read
        result.judged += one.judged
        progress.advance(bytes_done=one.input_bytes, rows=one.read)
        if chunk.bytes >= chunk_bytes:
            yield chunk
            chunk = _Chunk()
    yield chunk


def _by_size(rejections: Sequence[Rejection]) -> Iterator[list[Rejection]]:
    part: list[Rejection] = []
    size = 0
    for one in rejections:
        if part and size + len(one.body) + _REJECTION_BYTES > quarantine.LARGEST_FILE_BYTES:
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.body) + _REJECTION_BYTES
    if part:
        yield part
