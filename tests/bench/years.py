"""Does the hundredth run cost what the first did? One run a day, weekly compaction, monthly collect.

    python -m tests.bench.years [--days 50] [--events 200000] [--s3] [--archive LOCATION] [--folder DIR]

Each day's deliveries (the same 50 workspaces, 1 % invalid, 0.5 % duplicates) are generated
off the clock into a spool and archived by a process of its own. The table compares the CPU
seconds a million events of the first and the last runs, and says what compaction and collect
cost. With `--s3` the archive lies in a Ceph gateway that is started for it, and a second
table has the requests of each kind of process and their price (`requests.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tests.bench.bench import HERE, measure, say, size
from tests.bench.requests import HEADER, Meter, Requests, metered_bucket

FIRST_DAY = date(2024, 1, 1)
MARKS = (50, 250)  # runs up to which a row is told, besides the first and the last
SAMPLE = 5  # runs at either end whose median is compared


@dataclass(slots=True)
class Series:
    """CPU and wall seconds, and what else was seen, of each process of one kind."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    requests: list[Requests] = field(default_factory=list)

    def add(self, numbers: tuple[float, float, int, int], meter: Meter | None = None) -> None:
        if meter is not None:
            self.requests.append(meter.since_last())
        self.wall.append(numbers[0])
        self.cpu.append(numbers[1])
        self.memory.append(numbers[3])


def archiver(*arguments: str, allowed: tuple[int, ...] = (0, 3)) -> tuple[tuple[float, float, int, int], Any]:
    return measure([sys.executable, "-m", "archiver", *arguments, "--json"], allowed=allowed)


def generate(spool: Path, day: date, number: int, events: int) -> None:
    command = [sys.executable, "-m", "tests.bench.days", "--day", day.isoformat(), "--number", str(number)]
    subprocess.run([*command, "--events", str(events), "--out", str(spool)], check=True)


def simulate(
    archive: str, spool: Path, days: int, events: int, meter: Meter | None = None
) -> tuple[dict[str, Series], dict[str, Any]]:
    """Live through `days` days; return what each kind of process cost, and what came of it."""
    kinds = {name: Series() for name in ("run", "compact", "collect")}
    archived = 0
    for number in range(days):
        generate(spool, FIRST_DAY + timedelta(number), number, events)
        if meter is not None:
            meter.since_last()
        numbers, report = archiver("run", "--spool", str(spool), "--archive", archive)
        kinds["run"].add(numbers, meter)
        archived += report["archived"]
        if number % 7 == 6:
            kinds["compact"].add(archiver("compact", "--archive", archive)[0], meter)
        if number % 28 == 27:
            collect = ("collect", "--keep-snapshots", "0s", "--grace", "1h", "--force")
            kinds["collect"].add(archiver(*collect, "--archive", archive)[0], meter)
        if number % SAMPLE == SAMPLE - 1:
            cpu, wall = (statistics.median(one[-SAMPLE:]) for one in (kinds["run"].cpu, kinds["run"].wall))
            say(f"day {number + 1}: run {cpu:.2f} CPU s, {wall:.1f} s, {archived:,} archived")
    _, told = archiver("status", "--archive", archive)
    return kinds, {"archived": archived, "status": told}


def table(kinds: dict[str, Series], events: int) -> str:
    """Return the rows of the table: what a run cost at the start and at the end, and the chores."""
    run = kinds["run"]
    first = statistics.median(run.cpu[:SAMPLE])
    lines = []
    for mark in sorted({SAMPLE, *(mark for mark in MARKS if mark < len(run.cpu)), len(run.cpu)}):
        part = slice(max(mark - SAMPLE, 0), mark)
        cpu, wall, memory = (statistics.median(one[part]) for one in (run.cpu, run.wall, run.memory))
        lines.append(
            f"| runs {part.start + 1} to {mark} | {cpu / events * 1e6:.1f} | {wall:.1f} | "
            f"{int(memory) >> 20:,} | {cpu / first:.2f} |"
        )
    for name in ("compact", "collect"):
        series = kinds[name]
        if series.cpu:
            share = sum(series.cpu) / sum(run.cpu)
            lines.append(
                f"| all {len(series.cpu)} of {name} | {sum(series.cpu) / len(run.cpu) / events * 1e6:.1f} | "
                f"{max(series.wall):.1f} (longest) | {max(series.memory) >> 20:,} | {share:.2f} of all runs |"
            )
    return "\n".join(lines)


def requests_table(kinds: dict[str, Series]) -> str:
    """Return what the processes asked of the server: a run at the start and at the end, and the chores."""
    runs = kinds["run"].requests
    middle = len(runs) // 2
    rows = [runs[0].row("run 1"), runs[middle].row(f"run {middle + 1}"), runs[-1].row(f"run {len(runs)}")]
    for name in ("compact", "collect"):
        found = kinds[name].requests
        if found:
            rows += [found[0].row(f"{name}, first of {len(found)}"), found[-1].row(f"{name}, last")]
    everything = sum((one for series in kinds.values() for one in series.requests), Requests())
    return "\n".join([HEADER, *rows, everything.row("all together")])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=int(os.environ.get("BENCH_DAYS", "50")))
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--archive", default=None)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--s3", action="store_true", help="in a Ceph gateway of its own, counting requests")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")])
    )
    folder = given.folder or Path(tempfile.mkdtemp(prefix="years-"))
    spool = folder / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    place, meter = given.archive or str(folder / "archive"), None
    try:
        with contextlib.ExitStack() as servers:
            if given.s3:
                place, meter = servers.enter_context(metered_bucket())
            kinds, told = simulate(place, spool, given.days, given.events, meter)
        print(
            f"{told['archived']:,} events in {given.days} runs\n\n"
            "| | CPU s per 1 M events | seconds a run | all processes MiB | ratio |\n|---|--:|--:|--:|--:|"
        )
        print(table(kinds, given.events))
        datasets = told["status"]["datasets"]
        files, stored = sum(d["files"] for d in datasets.values()), sum(d["bytes"] for d in datasets.values())
        print(f"\nlive files {files:,}, {stored / told['archived']:.1f} bytes an event in them", end="")
        if "://" not in place:
            caches = {name: size(Path(place) / name) for name in ("_index", "_ledger", "events/_delta_log")}
            shown = ", ".join(f"{name} {count / told['archived']:.1f}" for name, count in caches.items())
            print(f"; beside them, bytes an event: {shown}", end="")
        print()
        if meter is not None:
            print(f"\n{requests_table(kinds)}\n")
        print(json.dumps({name: [round(one, 2) for one in s.cpu] for name, s in kinds.items()}))
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
