"""What several test modules need: events, a source in memory (a stand-in), one check of a whole archive."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archiver.archive import Archive, init_archive
from archiver.block import Block, Shape
from archiver.datafile import Encoding
from archiver.ledger.entry import digest_of
from archiver.pipeline import RunReport, run
from archiver.sources.base import Backlog, Batch, Input, batch_name
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.validate import Rules

RECEIVED_US = 1_774_520_100_000_000  # 2026-03-26T10:15:00Z


def event(
    event_id: str,
    *,
    workspace: str = "ws_1",
    timestamp: str = "2026-03-26T10:15:00.000000Z",
    **data: Any,
) -> bytes:
    """Return the body of a valid delivery."""
    members = {"id": event_id, "actor_id": "user_1", "action": "document.created"} | data
    return json.dumps(
        {"event_type": "event.created", "data": members, "workspace_id": workspace, "timestamp": timestamp},
        separators=(",", ":"),
    ).encode()


def alert(alert_id: str, *, workspace: str = "ws_1", **members: Any) -> bytes:
    return json.dumps(
        {
            "event_type": "alert.triggered",
            "alert_id": alert_id,
            "rule_type": "new_country",
            "workspace_id": workspace,
            "triggered_at": "2026-03-26T08:45:12.000000Z",
        }
        | members,
        separators=(",", ":"),
    ).encode()


@dataclass
class MemoryBatch:
    """A stand-in for a frozen batch: bodies in memory. Notes what is done with it."""

    bodies: Sequence[bytes]
    freeze_id: str = field(default_factory=lambda: secrets.token_hex(16))
    base: int = 0
    block_size: int = 1_000
    done: list[str] = field(default_factory=list)
    shape: Shape = "delivery"

    @property
    def inputs(self) -> tuple[Input, ...]:
        content = b"\n".join(self.bodies)
        return (Input("memory", digest_of(content), len(content)),)

    @property
    def batch(self) -> str:
        return batch_name(self.freeze_id, self.inputs)

    def read(self) -> Iterator[Block]:
        for start in range(0, len(self.bodies), self.block_size):
            part = list(self.bodies[start : start + self.block_size])
            numbers = list(range(start, start + len(part)))
            count = len(part)
            yield Block(0, part, numbers, numbers, [RECEIVED_US] * count, [None] * count, shape=self.shape)

    def moves(self) -> dict[str, Any]:
        return {}

    def acknowledge(self) -> None:
        self.done.append("acknowledged")

    def release(self) -> None:
        self.done.append("released")

    def put_back(self) -> None:
        self.done.append("put back")


@dataclass
class MemorySource:
    """A stand-in for a source: the given batches, one after another."""

    given: Sequence[Batch]
    name: str = "spool"

    def batches(self, base: Callable[[], int]) -> Iterator[Batch]:
        base()
        yield from self.given

    def backlog(self) -> Backlog:
        return Backlog()


def new_archive(place: Path | Store, **encoding: Any) -> Archive:
    """Create an archive without the race for its store, which has tests of its own."""
    store = LocalStore(place) if isinstance(place, Path) else place
    return init_archive(store, Encoding(**encoding), rounds=0)


def archive_bodies(archive: Archive, *bodies: bytes, **options: Any) -> RunReport:
    """Archive bodies as one batch."""
    return run(
        archive, MemorySource([MemoryBatch(bodies)]), rules=Rules(source="spool"), workers=0, **options
    )


def row(event_id: str, *, workspace: str = "ws_1", **members: Any) -> bytes:
    """Return the body of a valid row of a database: the event that `event` tells, and when it was made."""
    tree = {
        "id": event_id,
        "workspace_id": workspace,
        "actor_id": "user_1",
        "action": "document.created",
        "created_at": "2026-03-26T10:14:59.000000Z",
    }
    return json.dumps(tree | members, separators=(",", ":")).encode()


def archive_rows(archive: Archive, *bodies: bytes, rules: Rules | None = None) -> RunReport:
    """Archive bodies of rows as one batch of another source."""
    source = MemorySource([MemoryBatch(bodies, shape="row")], name="db")
    return run(archive, source, rules=rules or Rules(source="db"), workers=0)


def rows_of(archive: Archive, dataset: str = "events") -> list[dict[str, Any]]:
    """Return all live rows of a dataset, by reading every file that the snapshot names."""
    from archiver import columns  # noqa: PLC0415
    from archiver.datafile import decode  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    for file in archive.ledger.refresh().files.select(dataset):
        content = archive.store.get(file.key)
        assert digest_of(content) == file.digest
        table = decode(content, file.key, dataset, columns.SCHEMAS[dataset].names)
        assert table.num_rows == file.rows
        rows.extend(table.to_pylist())
    return rows


def ids_of(archive: Archive, dataset: str = "events") -> list[str]:
    """Return the ids of all live rows, sorted; one that is there twice is there twice."""
    column = {"events": "id", "alerts": "alert_id", "supplements": "id"}[dataset]
    return sorted(row[column] for row in rows_of(archive, dataset))
