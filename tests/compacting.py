"""An archive of many small files, and its rows as they must be before and after a compaction."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive
from archiver.columns import SCHEMAS
from archiver.datafile import decode
from tests.support import archive_bodies, event, new_archive

NOW = timedelta(0)


def at(minute: int, day: int = 26) -> str:
    return f"2026-03-{day}T{minute // 60:02d}:{minute % 60:02d}:00.000000Z"


def fill(archive: Archive, files: int = 6, rows: int = 10, *, first: int = 0, **members: Any) -> None:
    """Archive events of one partition in so many commits; their times overlap, and some are equal."""
    for number in range(first, first + files):
        minutes = [(number * 7 + row * 13) % 97 for row in range(rows)]
        archive_bodies(
            archive,
            *(
                event(f"{number}-{row}", timestamp=at(minute), **members)
                for row, minute in enumerate(minutes)
            ),
        )


def tables(archive: Archive, dataset: str = "events") -> list[list[dict[str, Any]]]:
    """Return the rows of each live file, in its order, less what JSON lines and compaction may change."""
    found = []
    for file in archive.ledger.refresh().files.select(dataset):
        rows = decode(archive.store.get(file.key), file.key, dataset, SCHEMAS[dataset].names)
        found.append([{k: v for k, v in row.items() if k != "origin"} for row in rows.to_pylist()])
    return found


def contents(archive: Archive, dataset: str = "events") -> list[dict[str, Any]]:
    kept = archive.encoding.format == "parquet"
    lost = () if kept else ("ordinal", "received_at", "source")
    rows = [
        {k: v for k, v in row.items() if k not in lost} for part in tables(archive, dataset) for row in part
    ]
    return sorted(rows, key=lambda row: str(row["body"]))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")
