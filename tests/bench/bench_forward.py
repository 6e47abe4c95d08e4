"""How fast events go on to a SIEM, beside the least that could be done. Prints Markdown tables.

    python -m tests.bench.bench_forward [--events 200000] [--million 1000000] [--replay 5000000] [--runs 3]
                                        [--only kinds,webhooks,forms,memory,replay]

The job is the library's part of `archiver forward`, in a process of its own: segments on disk, judged,
put into the destination's form, posted in batches of 1,000, the cursor moved after each answer. The
receiver is a stand-in (`taker.py`) in another process of this machine. The peer (`peer_post.py`) posts the
bodies of the same segments and does nothing else. They alternate. *A core* is by the CPU seconds of the
sender, less the start of Python: the receiver has its own. Each count is held against the generator's and the
stand-in's.

kinds: the generator's mix, of which a tenth is nested, spaced or has unknown members, and a hundredth
invalid. webhooks: of the same mix the flat, valid events alone, which is what the vendor's description
shows. memory: one job with ever more events. replay: an archive of 5 M events, and whether the last
tenth is as fast as the first. Options may be variables, BENCH_EVENTS and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archiver.archive import open_archive
from archiver.config import read_settings
from archiver.forward.replaying import replay, scope_of
from archiver.forward.run import Forwarded, forward
from archiver.judge import targets_schema
from archiver.rows import is_storable
from archiver.segment import BadStretch, SegmentWriter, read_runs
from archiver.store.local import LocalStore
from archiver.typed import TypedProof
from tests.bench.bench import HERE, MIB, inputs, machine, say
from tests.bench.many_files import Plan, made

NAME = "bench"
BAR = 50_000
PARTS = ("kinds", "webhooks", "forms", "memory", "replay")
KINDS = ("splunk", "elastic", "datadog", "logstash", "http")
PEER = "peer: bodies to HTTP, nothing else"
REPLAY_FILES = 500
_TOKEN_VARIABLE = "BENCH_FORWARD_TOKEN"
_OF_KIND = {
    "splunk": {"token_env": _TOKEN_VARIABLE, "batch_bytes": 16 << 20},
    "elastic": {},
    "datadog": {"token_env": _TOKEN_VARIABLE},
    "logstash": {},
    "http": {"batch": "lines", "batch_bytes": 16 << 20},
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What one process sent, and what that cost it."""

    events: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    wire_bytes: int

    @property
    def per_core(self) -> float:
        return self.events / self.cpu_seconds


def peak_bytes() -> int:
    """Return the most memory that this process had at once."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmHWM")


@contextmanager
def taker(kind: str) -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """Start a stand-in; give its URL, and what tells how much it took."""
    command = [sys.executable, "-m", "tests.bench.taker", "--kind", kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=HERE.parents[1], **pipes) as process:  # type: ignore[call-overload]
        url = process.stdout.readline().decode().strip()

        def told() -> dict[str, int]:
            with urllib.request.urlopen(url, timeout=60) as page:
                found: dict[str, int] = json.load(page)
            return found

        try:
            yield url, told
        finally:
            process.stdin.close()
            process.wait(60)


def configured(work: Path, kind: str, url: str, **members: Any) -> Path:
    """Write a configuration with one destination; batches of 1,000, uncompressed, as delivered."""
    given = {"type": kind, "url": url, "batch_events": 1_000, "gzip": False, **_OF_KIND[kind], **members}
    lines = [f'[archive]\nlocation = "{work}/archive"\n[spool]\nfolders = ["{work}/spool"]']
    lines += [f"[destinations.{NAME}]", *(f"{name} = {json.dumps(value)}" for name, value in given.items())]
    path = work / "archiver.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def webhooks(cache: Path, source: Path) -> Path:
    """Return segments of the flat, valid events of `source` alone; made once."""
    folder = cache / f"{source.name}-webhooks"
    if (folder / ".manifest.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    proof = TypedProof(targets_schema())
    count = 0
    for path in sorted(source.glob("*.seg")):
        with path.open("rb", buffering=0) as file, SegmentWriter(folder) as writer:
            for run in read_runs(file):
                if isinstance(run, BadStretch):
                    continue
                found = proof.find(run.bodies, range(len(run.bodies)))
                for number, workspace in zip(found.numbers, found.workspaces, strict=True):
                    if not is_storable(workspace):
                        continue
                    writer.append(run.bodies[number], run.received_at[number], run.streams[number])
                    count += 1
    (folder / ".manifest.json").write_text(json.dumps({"deliveries": count, "invalid": 0}))
    return folder


def live(source: Path, work: Path, kind: str, **members: Any) -> Sent:
    """Send all segments of `source` as a destination's waiting ones."""
    wanted = json.loads((source / ".manifest.json").read_text())
    waiting = work / "spool" / "consumers" / NAME
    shutil.rmtree(work, ignore_errors=True)
    waiting.mkdir(parents=True)
    for path in source.glob("*.seg"):
        os.link(path, waiting / path.name)
    with taker(kind) as (url, told):
        found = _in_a_process("live", configured(work, kind, url, **members))
        took = told()
    if found["taken"] != took["events"] or found["taken"] != wanted["deliveries"] - wanted["invalid"]:
        sys.exit(f"{kind}: the counts are wrong: {found}, the receiver took {took}")
    return _sent(found, took)


def peer(source: Path) -> Sent:
    """Send all bodies of `source` as the peer does."""
    with taker("http") as (url, told):
        command = [sys.executable, "-m", "tests.bench.peer_post", str(source), url]
        found = json.loads(subprocess.check_output(command, cwd=HERE.parents[1]))
        took = told()
    if found["taken"] != took["events"]:
        sys.exit(f"the peer sent {found['taken']}, the receiver took {took['events']}")
    return _sent(found, took)


def _in_a_process(step: str, configuration: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.bench_forward", "--step", step]
    command += ["--config", str(configuration)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    environment[_TOKEN_VARIABLE] = "0" * 32
    text = subprocess.check_output(command, cwd=HERE.parents[1], env=environment)
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def _sent(found: dict[str, Any], took: dict[str, int]) -> Sent:
    return Sent(
        found["taken"], found["seconds"], found["cpu_seconds"], int(found["peak_bytes"]), took["bytes"]
    )


def step(name: str, configuration: Path) -> dict[str, Any]:
    """What is measured, in a process of its own. `reached` has events, CPU and wall seconds on the way."""
    settings = read_settings(configuration)
    reached: list[tuple[int, float, float]] = []
    began, cpu_began = time.perf_counter(), time.process_time()

    def watch(taken: int) -> None:
        reached.append((taken, time.process_time() - cpu_began, time.perf_counter() - began))

    def watch_all(results: Sequence[Forwarded]) -> None:
        watch(results[0].tally.taken)

    if name == "live":
        (result,) = forward(settings, [NAME], lambda: sys.exit("no archive is needed"), watch=watch_all)
    else:
        archive = open_archive(LocalStore(Path(settings.archive or "")))
        result = replay(
            settings,
            settings.destinations[NAME],
            archive,
            scope_of(),
            watch=lambda one: watch(one.tally.taken),
        )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    if result.error is not None or not result.is_complete or result.tally.dead:
        sys.exit(f"not all was taken: {result}")
    return {
        "taken": result.tally.taken,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak_bytes(),
        "reached": reached,
    }


def row(name: str, runs: list[Sent], peer_per_core: float, *, bar: int | None = None) -> str:
    rates = [run.per_core for run in runs]
    rate = statistics.median(rates)
    shown = f"{rate:,.0f} ({min(rates):,.0f}–{max(rates):,.0f})"
    if bar is not None and rate < bar:
        shown = f"**{shown}**"
    cells = [
        name,
        shown,
        f"{1e6 / rate:.1f}",
        f"{statistics.median(run.events / run.seconds for run in runs):,.0f}",
        f"{statistics.median(run.wire_bytes / run.events for run in runs):,.0f}",
        f"{max(run.peak_bytes for run in runs) / MIB:,.0f}",
        f"{rate / peer_per_core:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def compare(source: Path, work: Path, runs: int, jobs: dict[str, dict[str, Any]], bar: int | None) -> None:
    """Take turns: the peer, and each job."""
    found: dict[str, list[Sent]] = {PEER: [], **{name: [] for name in jobs}}
    for number in range(runs):
        found[PEER].append(peer(source))
        for name, members in jobs.items():
            given = dict(members)
            found[name].append(live(source, work, given.pop("kind"), **given))
        say(f"round {number + 1} of {runs}")
    peer_per_core = statistics.median(one.per_core for one in found[PEER])
    print("| sender | events/s a core (range) | CPU µs an event | events/s | bytes an event | MiB | × peer |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, sent in found.items():
        print(row(name, sent, peer_per_core, bar=None if name == PEER else bar))
    print()


def kinds(source: Path, work: Path, runs: int) -> None:
    """The bar: as delivered, uncompressed."""
    compare(source, work, runs, {f"{kind}, as delivered": {"kind": kind} for kind in KINDS}, BAR)


def forms(source: Path, work: Path, runs: int) -> None:
    """Other forms, compression, and members that are hashed."""
    jobs: dict[str, dict[str, Any]] = {
        "splunk, ECS": {"kind": "splunk", "body": "ecs"},
        "splunk, OCSF": {"kind": "splunk", "body": "ocsf"},
        "splunk, as delivered, gzip": {"kind": "splunk", "gzip": True},
        "elastic, ECS, gzip": {"kind": "elastic", "body": "ecs", "gzip": True},
        "splunk, two members hashed": {
            "kind": "splunk",
            "hash": ["ip_address", "actor_name"],
            "hash_key_env": _TOKEN_VARIABLE,
        },
    }
    compare(source, work, runs, jobs, None)


def memory(cache: Path, work: Path, sizes: list[int]) -> None:
    """Does it grow with what waits?"""
    print("| segments with | events/s a core | peak MiB |")
    print("|--:|--:|--:|")
    for events in sizes:
        sent = live(inputs(cache, events, "segments", 0), work, "splunk")
        print(f"| {events:,} | {sent.per_core:,.0f} | {sent.peak_bytes / MIB:,.0f} |")
    print()


def replays(cache: Path, work: Path, events: int) -> None:
    """Does a long one slow down?"""
    plan = Plan(events=events, files=min(REPLAY_FILES, max(events // 100, 2)))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with made(plan, cache) as folder, taker("splunk") as (url, told):
        (work / "archive").symlink_to(folder)
        found = _in_a_process("replay", configured(work, "splunk", url))
        took = told()
    expected = plan.rows * plan.days * plan.workspaces
    if found["taken"] != expected or took["events"] != expected:
        sys.exit(f"the replay sent {found['taken']} of {expected}, the receiver took {took['events']}")
    first, last = tenths(found["reached"], expected)
    print("| replayed | events/s a core | first tenth | last tenth | last / first | events/s | peak MiB |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    whole = found["taken"] / found["cpu_seconds"]
    cells = [f"{expected:,} in {plan.days * plan.workspaces:,} files"]
    cells += [f"{rate:,.0f}" for rate in (whole, first, last)]
    cells += [f"{last / first:.2f}", f"{found['taken'] / found['seconds']:,.0f}"]
    print(f"| {' | '.join(cells)} | {found['peak_bytes'] / MIB:,.0f} |\n")


def tenths(reached: list[Sequence[float]], events: int) -> tuple[float, float]:
    """Return events for each CPU second of the first and of the last tenth of the events.

    Args:
        reached: Events and CPU seconds, ascending; what lies between two of them is taken to be even.
    """

    def seconds_at(count: float) -> float:
        before = (0.0, 0.0)
        for taken, cpu_seconds, *_ in reached:
            if taken >= count:
                part = (count - before[0]) / (taken - before[0] or 1)
                return before[1] + part * (cpu_seconds - before[1])
            before = (taken, cpu_seconds)
        return before[1]

    tenth = events / 10
    first = seconds_at(tenth)
    last = seconds_at(events) - seconds_at(events - tenth)
    return tenth / max(first, 1e-9), tenth / max(last, 1e-9)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    env = os.environ.get
    parser.add_argument("--events", type=int, default=int(env("BENCH_EVENTS", "200000")))
    parser.add_argument("--million", type=int, default=int(env("BENCH_MILLION", "1000000")))
    parser.add_argument("--replay", type=int, default=int(env("BENCH_REPLAY", "5000000")))
    parser.add_argument("--runs", type=int, default=int(env("BENCH_RUNS", "3")))
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--cache", type=Path, help="keeps generated inputs between runs")
    parser.add_argument("--step", choices=["live", "replay"])
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(step(given.step, given.config)))
        return
    print(f"{machine()}, batches of 1,000; {given.runs} runs each\n")
    with tempfile.TemporaryDirectory(prefix="bench-forward-") as scratch:
        cache, work = given.cache or Path(scratch) / "inputs", Path(scratch) / "run"
        # Segments are linked, not copied: both must lie on one file system.
        if given.cache is not None:
            work = given.cache / "run"
        for part in given.only.split(","):
            if part in ("kinds", "webhooks", "forms"):
                source = inputs(cache, given.events, "segments", 0)
                if part == "webhooks":
                    source = webhooks(cache, source)
                (forms if part == "forms" else kinds)(source, work, given.runs)
            elif part == "memory":
                memory(cache, work, sorted({given.events, given.million}))
            elif part == "replay":
                replays(cache, work, given.replay)
            else:
                sys.exit(f"{part}: expected one of {', '.join(PARTS)}")
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
