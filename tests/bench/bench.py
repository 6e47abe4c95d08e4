"""How fast the whole job is, beside DuckDB's unchecked COPY in the same runs. Prints one Markdown table.

    python -m tests.bench.bench [--events 1000000] [--runs 5] [--growth 1,3,10] [--only compare|growth]

The archive job reads sealed segments, checks, identifies, writes, commits, and fsyncs. The
peer (`peer.py`) reads the same deliveries as JSON lines. Runs alternate, so that a slow
moment of the machine meets all of them; the table has the medians, with the range of the
seconds. Compare ratios, not times. Options may be variables, BENCH_EVENTS and so on.

Memory is told twice: the largest process, as the kernel counted it, and the sum over the
process and its children, sampled every 20 ms (pages they share are counted in each).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MIX = "60 workspaces × 5 days, 1 % invalid, 0.5 % duplicates, 1 % alerts"
PEER = "peer: DuckDB COPY, unchecked"
COUNTS = ("archived", "supplements", "duplicates", "quarantined")
MIB = 1024 * 1024
HEADER = (
    "| job | events | seconds (range) | s per 1 M | events/s | CPU s per 1 M"
    " | largest process MiB | all processes MiB | bytes an event | × peer |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One subprocess: seconds of wall and CPU, bytes of memory, bytes that it wrote."""

    wall: float
    cpu: float
    largest: int
    tree: int
    written: int


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def resident(pid: int) -> int:
    """Memory of a process and all below it, in bytes; 0 once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def measure(command: list[str], *, allowed: tuple[int, ...]) -> tuple[tuple[float, float, int, int], Any]:
    """Run `command` to its end; it must exit with one of `allowed` and print a JSON document."""
    peak = 0
    ended = threading.Event()
    with tempfile.TemporaryFile() as printed:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=printed)

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.02):
                peak = max(peak, resident(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            ended.set()
            watcher.join()
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
        printed.seek(0)
        text = printed.read().decode()
    if child.returncode not in allowed:
        sys.exit(f"{' '.join(command)}: exit {child.returncode}\n{text}")
    numbers = (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, peak)
    return numbers, json.loads(text.splitlines()[-1])


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def inputs(cache: Path, events: int, form: str, seed: int) -> Path:
    """Generate once, and keep, because it takes as long as a run."""
    folder = cache / f"{events}-{form}-{seed}"
    if not (folder / ".manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        say(f"generating {events:,} deliveries as {form}")
        arguments = [
            "--events",
            str(events),
            "--seed",
            str(seed),
            "--as",
            form,
            "--out",
            str(folder),
            "--json",
        ]
        command = [sys.executable, "-m", "archiver", "generate", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def linked(source: Path, target: Path) -> Path:
    """Copy a folder by hard links; what is in it is only ever read or unlinked."""
    shutil.copytree(source, target, copy_function=os.link, ignore=shutil.ignore_patterns(".manifest.json"))
    return target


def check_counts(found: dict[str, Any], source: Path) -> None:
    """Hold the run's counts against the generator's."""
    truth = json.loads((source / ".manifest.json").read_text())
    wanted = {
        "read": truth["deliveries"],
        "archived": truth["events"] + truth["alerts"],
        "supplements": truth["supplements"],
        "duplicates": truth["duplicates"],
        "quarantined": truth["invalid"] + truth["conflicts"],
    }
    counts = {name: found.get(name) for name in wanted}
    if counts != wanted or counts["read"] != sum(counts[name] for name in COUNTS):
        sys.exit(f"the counts are wrong: expected {wanted}, found {counts}")


def archive_once(source: Path, work: Path, *, into: Path | None = None) -> Run:
    """Archive `source` into an empty archive, or into a copy of `into`."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    spool = linked(source, work / "spool")
    archive = linked(into, work / "archive") if into else work / "archive"
    before = size(archive) if into else 0
    command = [sys.executable, "-m", "archiver", "run", "--spool", str(spool), "--archive", str(archive)]
    numbers, printed = measure([*command, "--settle", "0", "--json"], allowed=(0, 3))
    check_counts(printed, source)
    return Run(*numbers, size(archive) - before)


def peer_once(source: Path, work: Path) -> Run:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    command = [sys.executable, str(HERE / "peer.py"), str(source / "*.jsonl"), str(work / "out")]
    numbers, _ = measure(command, allowed=(0,))
    return Run(*numbers, size(work / "out"))


def row(name: str, runs: list[Run], events: int, peer_seconds: float | None) -> str:
    walls = [run.wall for run in runs]
    wall = statistics.median(walls)
    cells = [
        name,
        f"{events:,}",
        f"{wall:.2f}" + (f" ({min(walls):.2f}–{max(walls):.2f})" if len(runs) > 1 else ""),
        f"{wall * 1e6 / events:.2f}",
        f"{events / wall:,.0f}",
        f"{statistics.median(run.cpu for run in runs) * 1e6 / events:.2f}",
        f"{max(run.largest for run in runs) / MIB:,.0f}",
        f"{max(run.tree for run in runs) / MIB:,.0f}",
        f"{statistics.median(run.written for run in runs) / events:.1f}",
        f"{peer_seconds / wall:.2f}" if peer_seconds else "",
    ]
    return f"| {' | '.join(cells)} |"


def compare(cache: Path, work: Path, events: int, runs: int) -> list[str]:
    """Rows for the three jobs, alternating."""
    segments, other = inputs(cache, events, "segments", 0), inputs(cache, events, "segments", 1)
    lines = inputs(cache, events, "jsonl", 0)
    full = work / "full"
    archive_once(other, full)
    jobs: dict[str, Callable[[], Run]] = {
        "archiver, empty archive": lambda: archive_once(segments, work / "run"),
        f"archiver, archive of {events:,} others": lambda: archive_once(
            segments, work / "run", into=full / "archive"
        ),
        PEER: lambda: peer_once(lines, work / "run"),
    }
    found: dict[str, list[Run]] = {name: [] for name in jobs}
    for number in range(runs):
        for name, job in jobs.items():
            found[name].append(job())
            say(f"run {number + 1} of {runs}: {name}: {found[name][-1].wall:.2f} s")
    peer_seconds = statistics.median(run.wall for run in found[PEER])
    return [row(name, done, events, peer_seconds) for name, done in found.items()]


def growth(cache: Path, work: Path, millions: list[float]) -> list[str]:
    """Rows for ever more events in one run, once each."""
    rows = []
    for million in millions:
        events = round(million * 1e6)
        run = archive_once(inputs(cache, events, "segments", 0), work / "run")
        say(f"growth: {events:,} events: {run.wall:.2f} s")
        rows.append(row("archiver, empty archive, once", [run], events, None))
    return rows


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    parts = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "polars", "orjson"))
    return (
        f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, {parts}; load at the start {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    env = os.environ.get
    cache = env("BENCH_CACHE") or f"{tempfile.gettempdir()}/archiver-bench"
    parser.add_argument("--events", type=int, default=int(env("BENCH_EVENTS", "1000000")))
    parser.add_argument("--runs", type=int, default=int(env("BENCH_RUNS", "5")))
    parser.add_argument(
        "--growth", default=env("BENCH_GROWTH", "1,3,10"), help="millions of events, with commas"
    )
    parser.add_argument("--only", choices=["compare", "growth"], default=env("BENCH_ONLY") or None)
    parser.add_argument("--cache", type=Path, default=Path(cache), help="generated inputs are kept here")
    options = parser.parse_args()
    # The subprocesses run from anywhere, installed or not.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parents[1]), env("PYTHONPATH")]))
    options.cache.mkdir(parents=True, exist_ok=True)
    told = machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="work-", dir=options.cache) as folder:
        if options.only != "growth":
            rows += compare(options.cache, Path(folder), options.events, options.runs)
        if options.only != "compare" and options.growth:
            rows += growth(options.cache, Path(folder), [float(part) for part in options.growth.split(",")])
    print(f"{told}\n{MIX}; median of {options.runs} alternating runs where there is a range\n\n{HEADER}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
