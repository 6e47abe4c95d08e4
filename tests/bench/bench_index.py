"""What looking ids up in the identity index costs. Prints one Markdown table.

    python -m tests.bench.bench_index [--ids 50000000] [--batch 1000000] [--folder DIR]

The index is made of random hashes, without data files: ids that are new need none. It is
written as runs of a million and merged by the rules, so its shape is that of an archive of
daily runs. Each measurement is a fresh process, with the objects in the page cache; the CPU
is that of all its threads, from the ids as columns to the rows that may be known. Bars: a
batch of a million new ids costs at most 0.5 µs of CPU an id and 300 MB; one of a hundred
reads at most 10 objects and 16 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from archiver import clock, layout
from archiver.archive import init_archive, open_archive
from archiver.index import manifest, merge
from archiver.index.known import Background
from archiver.index.part import PartEntry
from archiver.index.recent import Run
from archiver.store.local import LocalStore

MONTH = "2026-03"
RUN_IDS = 1_000_000
IDS_A_FILE = 200_000
AT_US = clock.from_text("2026-03-20T12:00:00.000000Z")
REACH_US = 62 * 86_400_000_000


class CountingStore(LocalStore):
    """A folder that counts what is read of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[tuple[str, int]] = []
        self.lists = 0

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        content = super().get(key, start=start, length=length)
        self.reads.append((key, len(content)))
        return content

    def list(self, prefix: str = "", *, start_after: str = "") -> Any:
        self.lists += 1
        return super().list(prefix, start_after=start_after)


def generate(folder: Path, ids: int) -> None:
    """Write an index of `ids` random hashes, and print what that cost."""
    store = LocalStore(folder)
    archive = init_archive(store, rounds=0)
    rng = np.random.default_rng(1)
    parts: list[PartEntry] = []
    before = time.process_time()
    peak = Peak()
    for start in range(0, ids, RUN_IDS):
        count = min(RUN_IDS, ids - start)
        files = -(-count // IDS_A_FILE)
        attempt = f"{start:032x}-{layout.new_attempt()}"
        keys = [f"events/workspace=ws/dt={MONTH}-10/{attempt}-{number}.parquet" for number in range(files)]
        hashes = np.sort(rng.integers(0, 2**64, size=count, dtype=np.uint64))
        numbers = rng.integers(0, files, size=count, dtype=np.uint32)
        parts += merge.write(store, MONTH, Run(hashes, numbers), keys)
        while chosen := merge.due(parts):
            made = merge.merge(store, MONTH, chosen, lambda keys: keys)
            store.delete([part.key for part in chosen])
            parts = [part for part in parts if part not in chosen] + made
    cpu = time.process_time() - before
    manifest.put(store, 0, archive.ledger.snapshot.digest, tuple(parts))
    runs = sorted(merge._size(run) for run in merge.runs_of(parts))
    told = {
        "objects": len(parts),
        "runs": runs,
        "bytes": sum(part.bytes for part in parts),
        "cpu_us_an_id": cpu * 1e6 / ids,
        "mib": peak.grown_mib(),
    }
    print(json.dumps(told))


class Peak:
    """How far the memory of this process has grown at most."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read("VmRSS")

    def grown_mib(self) -> float:
        return (self._read("VmHWM") - self._before) / 1024

    def _read(self, name: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise LookupError(name)


def measure(folder: Path, batch: int) -> None:
    """Look up `batch` new ids in a fresh process, and print what that cost."""
    store = CountingStore(folder)
    archive = open_archive(store)
    store.reads.clear()
    store.lists = 0
    drawn = np.random.default_rng(batch).bytes(16 * batch).hex()
    ids = [drawn[start : start + 32] for start in range(0, 32 * batch, 32)]
    frame = pl.DataFrame(
        {
            "workspace": ["ws"] * batch,
            "id": [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in ids],
            "at": np.full(batch, AT_US),
        }
    )
    del ids, drawn
    frame["at"].to_numpy()
    background = Background(archive.ledger.snapshot)
    peak, wall, cpu = Peak(), time.perf_counter(), time.process_time()
    hits = archive.identities.hits(frame, background)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert not hits
    told = {
        "batch": batch,
        "cpu_us_an_id": cpu * 1e6 / batch,
        "wall_seconds": wall,
        "mib": peak.grown_mib(),
        "lists": store.lists,
        "gets": len(store.reads),
        "objects": len({key for key, _ in store.reads}),
        "bytes": sum(size for _, size in store.reads),
    }
    print(json.dumps(told))


def fresh(*arguments: object) -> dict[str, Any]:
    """Run this module in a process of its own and return what it printed."""
    command = [sys.executable, "-m", "tests.bench.bench_index", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Make the index, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=50_000_000)
    parser.add_argument("--batch", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=["generate", "measure"])
    given = parser.parse_args()
    if given.step == "generate":
        generate(given.folder, given.ids)
        return
    if given.step == "measure":
        measure(given.folder, given.batch)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch) / "archive"
        made = fresh("--step", "generate", "--folder", folder, "--ids", given.ids)
        print(
            f"index: {given.ids:,} ids, runs of {', '.join(f'{size:,}' for size in made['runs'])}, "
            f"{made['objects']} objects, {made['bytes'] / 1e6:,.0f} MB; "
            f"written with {made['cpu_us_an_id']:.2f} µs an id, {made['mib']:,.0f} MiB"
        )
        print("| batch | CPU µs an id | seconds | memory MiB | LIST | GET | objects | MB read |")
        print("|--:|--:|--:|--:|--:|--:|--:|--:|")
        for batch in (given.batch, given.batch, given.batch, 100):
            told = fresh("--step", "measure", "--folder", folder, "--batch", batch)
            print(
                f"| {batch:,} | {told['cpu_us_an_id']:.3f} | {told['wall_seconds']:.2f} | {told['mib']:.0f} "
                f"| {told['lists']} | {told['gets']} | {told['objects']} | {told['bytes'] / 1e6:.1f} |"
            )


if __name__ == "__main__":
    main()
