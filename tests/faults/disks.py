"""A file system so small that it fills for real."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Disk = Callable[[str, int], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a file system of some KiB at a new folder; mounting it again changes its size."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a full disk needs root, to mount a small file system; run the tests as root")
    mounted: list[Path] = []

    def mount(name: str, size_kib: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        how = f"size={size_kib}k" + (",remount" if folder in mounted else "")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"a full disk needs the right to mount: {done.stderr.strip()[:100]}")
        if folder not in mounted:
            mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, size: int | None = None) -> Path:
    """Write a file of `size`, or until nothing more fits; its name is one that a spool leaves alone."""
    path = folder / ".filler"
    with path.open("wb", buffering=0) as file:
        if size is not None:
            file.write(bytes(size))
            return path
        for piece in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue
    return path
