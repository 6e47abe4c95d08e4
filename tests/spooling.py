"""A spool, files put into it, and what is taken out of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from archiver.sources.spool import SpoolSource


def put(folder: Path, name: str, content: bytes, *, age: float | None = 86_400) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    if age is not None:
        os.utime(path, (time.time() - age,) * 2)
    return path


def take(source: SpoolSource, base: int = 0) -> list:
    return list(source.batches(lambda: base))


def elements(batch) -> list[bytes]:
    return [body for block in batch.read() for body in block.bodies]


def archive(source: SpoolSource) -> list[bytes]:
    """Read and acknowledge all there is."""
    found = []
    for batch in source.batches(lambda: 0):
        found += elements(batch)
        batch.acknowledge()
    return found


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder
