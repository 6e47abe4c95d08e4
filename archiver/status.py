"""What an operator wants to see first: head, sizes, backlog, silent streams, quarantine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archiver import clock
from archiver.archive import Archive
from archiver.ledger.entry import Hold
from archiver.ledger.files import Volume
from archiver.reached import Reached, reached
from archiver.silence import Hearing, hearings
from archiver.sources.spool import SpoolSource
from archiver.sources.waiting import count_waiting
from archiver.streams import Stream


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
    streams: list[Hearing]
    sources: list[Reached]
    holds: list[Hold]

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
            "datasets": {name: _told(volume) for name, volume in self.datasets.items()},
            "workspaces": {
                dataset: {name: _told(volume) for name, volume in sorted(volumes.items())}
                for dataset, volumes in self.workspaces.items()
            },
            "counts": self.counts,
            "spools": self.spools,
            "streams": [hearing.to_json() for hearing in self.streams],
            "sources": [source.to_json() for source in self.sources],
            "holds": [hold.to_json() for hold in self.holds],
        }


def status(
    archive: Archive,
    sources: Sequence[SpoolSource] = (),
    streams: Mapping[str, Stream] | None = None,
    *,
    databases: Iterable[str] = (),
    now_us: int | None = None,
) -> Status:
    """Read the ledger and the spools' folders; no data file is opened, and no database is asked.

    Args:
        streams: As configured; those that a receiver noted in a spool are told as well.
        databases: As configured; those that the ledger has a cursor of are told as well.
        now_us: By which silence is told; None: now.

    Raises:
        SourceError: A spool cannot be read.
    """
    head = archive.ledger.snapshot
    datasets: dict[str, Volume] = defaultdict(Volume)
    workspaces: dict[str, dict[str, Volume]] = defaultdict(lambda: defaultdict(Volume))
    for (dataset, workspace), held in sorted(head.files.volumes().items()):
        for volume in (datasets[dataset], workspaces[dataset][workspace]):
            volume.add(held)
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
        streams=hearings(
            streams or {},
            [source.folder for source in sources],
            clock.now_us() if now_us is None else now_us,
        ),
        sources=reached(archive, list(databases)),
        holds=sorted(head.holds.values(), key=lambda hold: hold.name),
    )


def _spool(source: SpoolSource) -> dict[str, Any]:
    told = asdict(source.backlog())
    oldest = told["oldest_at"]
    told["oldest_at"] = None if oldest is None else clock.to_text(oldest)
    waiting = count_waiting(source.folder)
    return {
        "folder": str(source.folder),
        **told,
        "live_segments": waiting.live_segments,
        "live_bytes": waiting.live_bytes,
        "consumers": [{"name": name, **one.to_json()} for name, one in waiting.consumers.items()],
    }


def _last_append(archive: Archive) -> dict[str, Any] | None:
    commit = archive.ledger.newest("append")
    if commit is None:
        return None
    return {
        "commit": commit.sequence,
        "committed_at": clock.to_text(commit.committed_us),
        "source": commit.content.source.get("name"),
        **commit.content.counts.to_json(),
    }


def _told(volume: Volume) -> dict[str, Any]:
    return {
        "files": volume.files,
        "rows": volume.rows,
        "bytes": volume.bytes,
        "first": None if volume.min_us is None else clock.to_text(volume.min_us),
        "last": None if volume.max_us is None else clock.to_text(volume.max_us),
    }
