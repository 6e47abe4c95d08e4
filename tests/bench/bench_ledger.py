"""A long ledger: what opening it costs, to the first row of a query. Prints one Markdown table.

    python -m tests.bench.bench_ledger [--commits 100000] [--files 10] [--workspaces 200] [--days 1000]

The ledger is generated, not made by runs: commits are written as files, without fsync. The
data files of one workspace and day are real, and a query asks for them; the others are
only named. The checkpoint is written by the program itself. Each row of the table is a
process of its own; bytes are those that the kernel read for it (`rchar`), less those of the
same command on an archive with one commit. Compare ratios, not times.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from archiver import clock, columns, layout
from archiver.datafile import Encoding, bodies_digest
from archiver.ledger import checkpoint_write
from archiver.ledger.entry import Commit, Content, Counts, DataFile, digest_of
from archiver.store.local import LocalStore

COUNT = "SELECT count(*) FROM events"
COMMITS = "SELECT operation, count(*), sum(read) FROM commits GROUP BY 1"
DAY_US = 86_400_000_000
FIRST_DAY = date(2024, 1, 1)
FIRST_US = 1_704_067_200_000_000
ROWS_A_FILE = 20
COMMAND = """
from archiver.cli.main import main
sys.argv = ["archiver", *sys.argv[1:]]
main()
"""
OPEN = """
from pathlib import Path
from archiver.ledger.ledger import Ledger
from archiver.store.local import LocalStore
ledger = Ledger.open(LocalStore(Path(sys.argv[-1])), from_checkpoint={from_checkpoint})
assert "0" * 32 not in ledger.snapshot.batches
"""
COUNTED = """
import sys
try:
    {work}
finally:
    sys.stdout.flush()
    counted = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    print("counted", counted["rchar"], status["VmHWM"].split()[0], file=sys.stderr)
"""


@dataclass(frozen=True, slots=True)
class LongLedger:
    """What is generated: `files` a commit, all commits spread evenly over `days`.

    Attributes:
        real: Workspace and day (from 0) whose data files are really there.
    """

    commits: int
    files: int = 10
    workspaces: int = 200
    days: int = 1000
    real: tuple[int, int] = (7, 500)

    def commit(self, number: int, previous: str) -> tuple[Commit, dict[str, bytes]]:
        """Return commit `number`, and the data files of it that are to be there."""
        batch = _name("batch", number)[:32]
        attempt = f"{(FIRST_US + number * 1_000_000) // 1_000:012x}{_name('attempt', number)[:16]}"
        day = number * self.days // self.commits
        added, contents = [], {}
        for place in range(self.files if number else 0):
            workspace = (number * self.files + place) % self.workspaces
            file, content = self._file(number, place, workspace, day, (batch, attempt))
            added.append(file)
            if content is not None:
                contents[file.key] = content
        rows = sum(file.rows for file in added)
        content = Content(
            operation="append" if number else "init",
            batch=batch,
            attempt=attempt,
            source={"name": "spool"} if number else {},
            inputs=(
                {"name": f"{number}.seg", "digest": _digest("input", number), "bytes": 100, "elements": rows},
            )
            if number
            else (),
            added=tuple(added),
            counts=Counts(rows, rows),
            archive=None
            if number
            else {
                "id": "6a0e8a0e-0000-4000-8000-000000000000",
                "data_format": "parquet",
                "compression_level": 1,
                "partitioning": ["workspace", "dt"],
                "datasets": {"events": 1, "alerts": 1, "supplements": 1},
                "identity_window_days": 31,
            },
        )
        made = Commit(number, previous, FIRST_US + number * 1_000_000, 0, content)
        return Commit(number, previous, made.committed_us, 0, content, digest_of(_encode(made))), contents

    def _file(
        self, number: int, place: int, workspace: int, day: int, names: tuple[str, str]
    ) -> tuple[DataFile, bytes | None]:
        name, dt = f"ws_{workspace:04d}", FIRST_DAY + timedelta(days=day)
        key = layout.data_file("events", name, dt, *names, place, "parquet")
        first = FIRST_US + day * DAY_US + number % 86_000 * 1_000_000
        if (workspace, day) != self.real:
            token = number * self.files + place
            drawn = int(_name("drawn", token)[:12], 16)
            last = first + drawn % 3_600_000_000
            size, digest, bodies = 2_000 + drawn % 99_991, _digest("file", token), _digest("rows", token)
            return DataFile(key, digest, size, ROWS_A_FILE, first, last, bodies), None
        rows = _rows(name, number, place, first)
        content = Encoding().encode(rows, "events")
        digest, bodies = digest_of(content), bodies_digest(rows["body"], "parquet")
        return DataFile(key, digest, len(content), ROWS_A_FILE, first, first + ROWS_A_FILE, bodies), content

    def generate(self, folder: Path, *, checkpoint: bool = True) -> checkpoint_write.CheckpointReport | None:
        """Write the archive into `folder`."""
        (folder / "_ledger").mkdir(parents=True)
        digests = [""]
        for number in range(self.commits):
            made, contents = self.commit(number, digests[-1])
            digests.append(made.digest)
            (folder / layout.commit(number)).write_bytes(_encode(made))
            for key, content in contents.items():
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                (folder / key).write_bytes(content)
        if not checkpoint:
            return None
        head, _ = self.commit(self.commits - 1, digests[-2])
        return checkpoint_write.write(
            LocalStore(folder), head, lambda number: self.commit(number, digests[number])[0]
        )

    def question(self) -> str:
        """Return a query that asks for the real files' rows."""
        workspace, day = self.real
        since = FIRST_DAY + timedelta(days=day)
        return (
            f"SELECT id, event_time FROM events WHERE workspace_id = 'ws_{workspace:04d}' "
            f"AND event_time >= TIMESTAMPTZ '{since} 00:00:00Z' "
            f"AND event_time < TIMESTAMPTZ '{since + timedelta(days=1)} 00:00:00Z'"
        )


def _name(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


def _digest(kind: str, number: int) -> str:
    return f"sha256:{_name(kind, number)}"


def _encode(commit: Commit) -> bytes:
    """Return what `Commit.encode` does; quicker, and only for what is generated here."""
    said = commit.content
    tree: dict[str, Any] = json.loads(Commit.encode(_bare(commit)))
    tree["added"] = [file.to_json() for file in said.added]
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _bare(commit: Commit) -> Commit:
    from dataclasses import replace  # noqa: PLC0415

    return replace(commit, content=replace(commit.content, added=()))


def _rows(workspace: str, number: int, place: int, first_us: int) -> pa.Table:
    names = [f"evt_{number}_{place}_{row}" for row in range(ROWS_A_FILE)]
    times = [first_us + row for row in range(ROWS_A_FILE)]
    arrays: list[Any] = []
    for field in columns.SCHEMAS["events"]:
        values: Any = None
        if field.name in ("id", "workspace_id", "event_type", "shape", "source", "body"):
            fixed = {
                "workspace_id": workspace,
                "event_type": "event.created",
                "shape": "webhook",
                "source": "spool",
            }
            values = [fixed.get(field.name, one) for one in names]
        elif field.name in ("event_time", "received_at"):
            values = times
        elif field.name == "ordinal":
            values = list(range(ROWS_A_FILE))
        arrays.append(pa.array(values, field.type) if values else pa.nulls(ROWS_A_FILE, field.type))
    return pa.table(arrays, schema=columns.SCHEMAS["events"])


@dataclass(frozen=True, slots=True)
class Run:
    """One process: seconds of wall and CPU, bytes that it read, its largest memory, and what it printed."""

    wall: float
    cpu: float
    read: int
    memory: int
    told: str


def run(*arguments: str, script: str = COMMAND) -> Run:
    """Run `archiver`, or another script, with these arguments."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work = script.strip().replace("\n", "\n    ")
    command = [sys.executable, "-c", COUNTED.replace("{work}", work), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    read, largest = map(int, done.stderr.rpartition("counted ")[2].split())
    return Run(wall, cpu, read, largest * 1024, done.stdout)


def rows(plan: LongLedger, folder: Path, empty: Path, *, folds: bool) -> Iterator[str]:
    """Yield the lines of the table."""
    question = plan.question()
    jobs = [
        ("query, one workspace and day", ["sql", question, "--format", "csv"], COMMAND),
        ("the same, by --workspace --since --until", ["sql", COUNT, *_options(plan)], COMMAND),
        ("status", ["status"], COMMAND),
        ("the view commits, all of it", ["sql", COMMITS], COMMAND),
        ("open, and look a batch up", [], OPEN.format(from_checkpoint=True)),
    ]
    if folds:
        jobs.append(("the same without a checkpoint", [], OPEN.format(from_checkpoint=False)))
        jobs.append(("checkpoint --rebuild", ["checkpoint", "--rebuild"], COMMAND))
    for name, arguments, script in jobs:
        base = run(*_on(arguments, empty), script=script)
        found = run(*_on(arguments, folder), script=script)
        yield (
            f"| {name} | {found.wall:.2f} | {found.wall - base.wall:.2f} | {found.cpu:.2f} "
            f"| {(found.read - base.read) / 1e6:.1f} | {found.memory / 2**20:.0f} |"
        )


def _options(plan: LongLedger) -> list[str]:
    since = FIRST_DAY + timedelta(days=plan.real[1])
    until = since + timedelta(days=1)
    return ["--workspace", f"ws_{plan.real[0]:04d}", "--since", str(since), "--until", str(until)]


def _on(arguments: list[str], folder: Path) -> list[str]:
    return [*arguments, "--archive", str(folder)] if arguments else [str(folder)]


def main() -> None:
    """Generate, measure, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--commits", type=int, default=int(os.environ.get("BENCH_COMMITS", "100000")))
    asked.add_argument("--files", type=int, default=10)
    asked.add_argument("--workspaces", type=int, default=200)
    asked.add_argument("--days", type=int, default=1000)
    asked.add_argument("--no-fold", action="store_true", help="leave out what reads all commits")
    asked.add_argument("--keep", help="generate into this folder, or use what is there")
    told = asked.parse_args()
    plan = LongLedger(told.commits, told.files, told.workspaces, told.days, (7, told.days // 2))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(told.keep or scratch) / "long"
        if not folder.exists():
            started = time.process_time()
            report = plan.generate(folder)
            print(f"generated in {time.process_time() - started:.0f} CPU s: {report}", file=sys.stderr)
        empty = Path(scratch) / "empty"
        LongLedger(1, real=plan.real).generate(empty)
        print(f"{plan.commits:,} commits, {plan.commits * plan.files:,} live files\n")
        print("| job | s, whole process | s more than with one commit | CPU s | MB read | MiB of memory |")
        print("|---|--:|--:|--:|--:|--:|")
        for line in rows(plan, folder, empty, folds=not told.no_fold):
            print(line, flush=True)
        print(f"\nmade at {clock.to_text(clock.now_us())[:10]}", file=sys.stderr)


if __name__ == "__main__":
    main()
