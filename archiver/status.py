"""What an operator wants to see first: head, sizes, backlog, quarantine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archiver import clock
from archiver.archive import Archive
from archiver.sources.spool import SpoolSource


@dataclass(slots=True)
class Volume:
    """Live files of one dataset, or of one workspace in it."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def add(self, rows: int, size: int, min_us: int, max_us: int) -> None:
        self.files += 1
        self.rows += rows
        self.bytes += size
        self.first_us = min_us if self.first_us is None else min(self.first_us, min_us)
        self.last_us = max_us if self.last_us is None else max(self.last_us, max_us)

    def to_json(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "rows": self.rows,
            "bytes": self.bytes,
            "first": None if self.first_us is None else clock.to_text(self.first_us),
            "last": None if self.last_us is None else clock.to_text(self.last_us),
        }


@dataclass(slots=True)
class Status:
    """See the members' names; times in microseconds since 1970."""

    archive: str
    location: str
    data_format: str
    head: int
    head_digest: str
    committed_us: int
    last_append: dict[str, Any] | None
    datasets: dict[str, Volume]
    workspaces: dict[str, dict[str, Volume]]
    counts: dict[str, int]
    spools: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "status",
            "archive": self.archive,
            "location": self.location,
            "format": self.data_format,
            "head": self.head,
            "head_digest": self.head_digest,
            "committed_at": clock.to_text(self.committed_us),
            "last_append": self.last_append,
            "datasets": {name: volume.to_json() for name, volume in self.datasets.items()},
            "workspaces": {
                dataset: {name: volume.to_json() for name, volume in sorted(volumes.items())}
                for dataset, volumes in self.workspaces.items()
            },
            "counts": self.counts,
            "spools": self.spools,
        }


def status(archive: Archive, sources: Sequence[SpoolSource] = ()) -> Status:
    """Read the ledger and the spools' folders; no data file is opened."""
    head = archive.ledger.snapshot
    datasets: dict[str, Volume] = defaultdict(Volume)
    workspaces: dict[str, dict[str, Volume]] = defaultdict(lambda: defaultdict(Volume))
    for file in head.files.select():
        where = file.partition
        for volume in (datasets[where.dataset], workspaces[where.dataset][where.workspace]):
            volume.add(file.rows, file.bytes, file.min_us, file.max_us)
    return Status(
        archive=archive.id,
        location=archive.store.location,
        data_format=archive.encoding.format,
        head=head.sequence,
        head_digest=head.digest,
        committed_us=head.committed_us,
        last_append=_last_append(archive),
        datasets=dict(datasets),
        workspaces={name: dict(volumes) for name, volumes in workspaces.items()},
        counts=head.totals.to_json(),
        spools=[_spool(source) for source in sources],
    )


def _spool(source: SpoolSource) -> dict[str, Any]:
    told = asdict(source.backlog())
    oldest = told["oldest_at"]
    told["oldest_at"] = None if oldest is None else clock.to_text(oldest)
    return {"folder": str(source.folder), **told}


def _last_append(archive: Archive) -> dict[str, Any] | None:
    for sequence in range(archive.ledger.snapshot.sequence, -1, -1):
        commit = archive.ledger.read(sequence)
        if commit.content.operation == "append":
            return {
                "commit": sequence,
                "committed_at": clock.to_text(commit.committed_us),
                "source": commit.content.source.get("name"),
                **commit.content.counts.to_json(),
            }
    return None
