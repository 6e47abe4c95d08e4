"""Where an event came from: every place in the archive that has its id, with its provenance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow.compute as pc

from archiver import clock, layout
from archiver.archive import Archive
from archiver.columns import IDENTITY_COLUMN
from archiver.datafile import decode, suffix_of
from archiver.errors import IntegrityError
from archiver.index.known import Background
from archiver.ledger.entry import Commit, DataFile
from archiver.requeue import entries


@dataclass(frozen=True, slots=True)
class Place:
    """One place in which an id was found.

    Attributes:
        what: `archived`, `supplement` (tells more of an archived one) or `quarantined`.
        commit, batch, committed_at: Of the commit that first put it into the archive.
        compacted_by: The commit that put it into this object, if that was a compaction. JSON-lines
            archives keep no origin of a row: there `commit` is the compaction, too.
        object, row: The data file and the row in it, from 0; of a quarantined one the entry's name.
        input, ordinal, received_at: The delivery or file it came from, its number in the batch,
            and when it came. JSON-lines archives do not keep them; they are None there.
        body: As it was delivered; None if it is not UTF-8.
        cursor: Of a batch of rows of a database: `before` (None: it began with the first row) and
            `after`, as the commit has them. The row lies behind the one, at or before the other.
    """

    what: Literal["archived", "supplement", "quarantined"]
    dataset: str | None
    workspace: str | None
    commit: int
    batch: str
    committed_at: str
    object: str
    row: int | None
    source: str
    input: str | None
    ordinal: int | None
    event_time: str | None
    received_at: str | None
    reason: str | None
    detail: str | None
    body: str | None
    compacted_by: int | None = None
    cursor: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def explain(
    archive: Archive, event_id: str, *, workspace: str | None = None, scan: bool = False
) -> list[Place]:
    """Return every place of `event_id`: archived, supplementing, in quarantine (conflicts among them).

    The identity index says which files may hold it, and only those are read. It is a cache:
    what it left out would not be found.

    Args:
        workspace: Look in this one only.
        scan: Believe no index: read the id column of every file of the workspace, or of all.

    Raises:
        IntegrityError: A file cannot be read, or is not what the ledger says.
        StoreError: One is not there.
    """
    commits = _Commits(archive)
    places: list[Place] = []
    for file in _candidates(archive, event_id, workspace, scan=scan):
        places.extend(_rows(archive, file, event_id, commits))
    for entry in entries(archive, lambda one: one.rejection.event_id == event_id):
        found = entry.rejection
        if workspace is not None and found.workspace_id != workspace:
            continue
        commit = commits.at(entry.commit)
        places.append(
            Place(
                what="quarantined",
                dataset=found.dataset,
                workspace=found.workspace_id,
                commit=entry.commit,
                batch=commit.content.batch,
                committed_at=clock.to_text(commit.committed_us),
                object=entry.name,
                row=None,
                source=entry.source + (f"/{found.stream}" if found.stream else ""),
                input=entry.input_name,
                ordinal=found.ordinal,
                event_time=None,
                received_at=clock.to_text(found.received_at),
                reason=found.reason,
                detail=found.detail,
                body=_text(found.body),
                cursor=_cursor_of(commit),
            )
        )
    return places


def _candidates(archive: Archive, event_id: str, workspace: str | None, *, scan: bool) -> list[DataFile]:
    """Return the live files that may hold the id, by key."""
    head = archive.ledger.snapshot
    try:
        event_id.encode()
    except UnicodeEncodeError:
        return []  # half a character: no archived row has such an id, an entry in quarantine may
    if scan:
        return head.files.select(workspaces=None if workspace is None else (workspace,))
    within = {name for _, name in head.files.volumes()} if workspace is None else {workspace}
    return archive.identities.holders(event_id, within, Background(head))


class _Commits:
    """The commits that were asked for, each read once."""

    def __init__(self, archive: Archive) -> None:
        self._ledger = archive.ledger
        self._read: dict[int, Commit] = {}

    def at(self, sequence: int) -> Commit:
        if sequence not in self._read:
            self._read[sequence] = self._ledger.read(sequence)
        return self._read[sequence]

    def of(self, stem: str) -> Commit | None:
        """Return the commit that added the data file with this stem; None if there is none."""
        sequence = self._ledger.snapshot.batches.get(stem.partition("-")[0])
        return None if sequence is None else self.at(sequence)


def _rows(archive: Archive, file: DataFile, event_id: str, commits: _Commits) -> Iterator[Place]:
    dataset = file.partition.dataset
    identity = IDENTITY_COLUMN[dataset]
    content = archive.store.get(file.key)
    ids = decode(content, file.key, dataset, [identity])[identity]
    mask = pc.equal(ids, event_id).to_numpy(zero_copy_only=False)
    if not mask.any():
        return
    own = commits.of(layout.stem_of(file.key))
    if own is None:
        raise IntegrityError(f"{file.key}: expected the commit that its name tells of, found none")
    wanted = ["event_time", "received_at", "source", "ordinal", "body", "origin"]
    rows = decode(content, file.key, dataset, wanted)
    kept = suffix_of(file.key) == "parquet"
    for number in mask.nonzero()[0].tolist():
        row = rows.slice(number, 1).to_pylist()[0]
        commit = (commits.of(row["origin"]) if row["origin"] else None) or own
        yield Place(
            what="supplement" if dataset == "supplements" else "archived",
            dataset=dataset,
            workspace=file.partition.workspace,
            commit=commit.sequence,
            batch=commit.content.batch,
            committed_at=clock.to_text(commit.committed_us),
            object=file.key,
            row=number,
            source=str(row["source"] if kept else commit.content.source.get("name", "a source not kept")),
            input=_input_of(commit, row["ordinal"]) if kept else None,
            ordinal=row["ordinal"] if kept else None,
            event_time=clock.to_text(clock.to_us(row["event_time"])),
            received_at=clock.to_text(clock.to_us(row["received_at"])) if kept else None,
            reason=None,
            detail=None,
            body=row["body"],
            compacted_by=own.sequence if own.content.operation == "compact" else None,
            cursor=_cursor_of(commit),
        )


def _cursor_of(commit: Commit) -> dict[str, Any] | None:
    source = commit.content.source
    return {name: source.get(name) for name in ("before", "after")} if "after" in source else None


def _input_of(commit: Commit, ordinal: int) -> str | None:
    """Return the name of the input that held the element with this number in the batch."""
    if commit.content.operation != "append":
        return None  # of a requeue the ordinal counts the moved entries
    end = 0
    for one in commit.content.inputs:
        end += int(one.get("elements", 0))
        if ordinal < end:
            return str(one["name"])
    return None


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
