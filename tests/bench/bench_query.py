"""Questions to many events in many files, beside DuckDB without an archive. Prints Markdown tables.

    python -m tests.bench.bench_query [--events 20000000] [--files 2000] [--repetitions 7] [--s3]
                                      [--folder DIR] [--only compare,processes,named]

Both sides answer from nothing: `archiver.open` or `duckdb.connect` is on the clock, and so
are reading the ledger or finding the files, and all rows of the answer. What is imported is
not. Locally the peer is DuckDB on `read_parquet('…/*/*/*.parquet', hive_partitioning = true)`,
on S3 a pyarrow dataset found by listing. The statement is the same but for its FROM, and
names `workspace` and `dt` so that both may leave folders out. Each repetition asks for
another row; the sides take turns, and who is first changes; the first repetition is not
counted. The answers are compared, and a wrong one ends the benchmark.

compare: the table of ratios, with `--s3` also in a Ceph gateway that is started for it, and
there the requests. processes: each question once more as `archiver sql` and as a script with
DuckDB, Python's start included, with their memory. named: every query of queries/ over a
million events. The archive is made once (about two minutes for 20 M events, 3 GB) and kept
in `--folder`; without it a temporary folder is used. Its newest checkpoint has 32 commits
behind it, as an archive has on the average. In the S3 server it takes 7 GB of memory; where
that is too much, give fewer `--events`. Compare ratios, not times.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

import archiver
from tests.bench import bench_ledger
from tests.bench.asking import Place, Question, questions, same_rows, through, uploaded
from tests.bench.bench import HERE, machine, say
from tests.bench.many_files import Plan, made
from tests.bench.requests import Meter
from tests.services import ceph

PARTS = ("compare", "processes", "named")
NAMED = Plan(events=1_000_000, files=100)
MIB = 1024 * 1024
# A parameter that a query needs to be told, by its name, and the column that it is a value of.
TOLD = {"actor": "actor_id", "resource_id": "resource_id", "session": "session_id"}


@dataclass(slots=True)
class Took:
    """Seconds that the answers of one side took: wall, and CPU of all threads of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def ask(place: Place, question: Question) -> tuple[dict[str, Took], int]:
    """Ask on both sides in turns; return what each took, and how many rows the last answer has.

    Raises:
        SystemExit: The two answers differ.
    """
    took = {side: Took() for side in place.sides()}
    rows = 0
    for number, text in enumerate(question.texts):
        found: dict[str, pa.Table] = {}
        for side, answer in list(place.sides().items())[:: 1 if number % 2 else -1]:
            gc.collect()
            started, busy = time.perf_counter(), time.process_time()
            found[side] = answer(text)
            took[side].wall.append(time.perf_counter() - started)
            took[side].cpu.append(time.process_time() - busy)
        if not same_rows(found["archiver"], found["peer"]):
            raise SystemExit(f"{place.name}: the two answers differ: {text}")
        rows = found["archiver"].num_rows
        shown = ", ".join(f"{side} {one.wall[-1] * 1e3:.1f} ms" for side, one in took.items())
        say(f"{place.name}: {question.name}: {shown}")
    return took, rows


def compare(place: Place, asked: list[Question]) -> Iterator[str]:
    """Yield the lines of the table of ratios."""
    yield (
        "| where | question | rows | archiver, ms (range) | peer, ms (range) | times as fast (wanted) "
        "| CPU ms, archiver and peer |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|"
    for question in asked:
        took, rows = ask(place, question)
        ours, theirs = took["archiver"], took["peer"]
        ratio = _median(theirs.wall) / _median(ours.wall)
        shown = f"{ratio:.1f}" if ratio >= question.wanted else f"**{ratio:.1f}**"
        yield (
            f"| {place.name} | {question.name} | {rows:,} | {_range(ours.wall)} | {_range(theirs.wall)} "
            f"| {shown} ({question.wanted:g}) "
            f"| {_median(ours.cpu) * 1e3:,.0f}, {_median(theirs.cpu) * 1e3:,.0f} |"
        )


def _median(seconds: list[float]) -> float:
    return statistics.median(_counted(seconds))


def _counted(seconds: list[float]) -> list[float]:
    """Leave the first out, which found cold caches, unless it is the only one."""
    return seconds[1:] or seconds


def _range(seconds: list[float]) -> str:
    least, most = min(_counted(seconds)) * 1e3, max(_counted(seconds)) * 1e3
    digits = 1 if least < 100 else 0
    return f"{_median(seconds) * 1e3:,.{digits}f} ({least:,.{digits}f}–{most:,.{digits}f})"


def requests(place: Place, meter: Meter, asked: list[Question]) -> Iterator[str]:
    """Yield the lines of the table of what each side asks of the S3 server, opening included."""
    yield "| question | archiver: LIST, GET, HEAD, MB | peer: LIST, GET, HEAD, MB |"
    yield "|---|--:|--:|"
    with through(meter):
        for question in asked:
            cells = []
            for answer in place.sides().values():
                meter.since_last()
                answer(question.texts[-1])
                seen = meter.since_last()
                counts = ", ".join(f"{seen.kinds[kind]:,}" for kind in ("LIST", "GET", "HEAD"))
                cells.append(f"{counts}, {seen.received / 1e6:.1f}")
            yield f"| {question.name} | {' | '.join(cells)} |"


def processes(place: Place, asked: list[Question], repetitions: int) -> Iterator[str]:
    """Yield the lines of the table of whole processes."""
    yield "| where | question | archiver sql: s, CPU s, MiB | DuckDB in Python: s, CPU s, MiB |"
    yield "|---|---|--:|--:|"
    for question in asked:
        ours: list[bench_ledger.Run] = []
        theirs: list[bench_ledger.Run] = []
        for text in question.texts[-repetitions:]:
            command = ["sql", text.format(events="events"), "--archive", place.location, "--format", "csv"]
            ours.append(bench_ledger.run(*command))
            theirs.append(bench_ledger.run(text.format(events=place.scan), script=place.peer_script()))
        yield f"| {place.name} | {question.name} | {_process(ours)} | {_process(theirs)} |"


def _process(runs: list[bench_ledger.Run]) -> str:
    wall, cpu = (statistics.median(getattr(one, name) for one in runs) for name in ("wall", "cpu"))
    return f"{wall:.2f}, {cpu:.2f}, {max(one.memory for one in runs) / MIB:,.0f}"


def named(folder: Path, repetitions: int) -> Iterator[str]:
    """Yield the lines of the table of named queries, in the order of their names."""
    reader = archiver.open(folder)
    known = " AND ".join(f"{column} IS NOT NULL" for column in TOLD.values())
    text = f"SELECT {', '.join(TOLD.values())} FROM events WHERE {known}"
    rows = reader.sql(f"{text} ORDER BY event_time, id LIMIT 1").arrow().to_pylist()
    told = {start: rows[0][column] for start, column in TOLD.items() if rows}
    yield "| query | rows | ms (range) |"
    yield "|---|--:|--:|"
    for query in reader.catalog:
        given = {one.name: told[one.name] for one in query.parameters if one.name in told}
        took = []
        for _ in range(repetitions + 1):
            gc.collect()
            started = time.perf_counter()
            count = archiver.open(folder).query(query.name, **given).arrow().num_rows
            took.append(time.perf_counter() - started)
        shown = "".join(f", one {name}" for name in given)
        yield f"| {query.name}{shown} | {count:,} | {_range(took)} |"


def tables(given: argparse.Namespace) -> Iterator[str]:
    """Yield all lines that are printed."""
    plan, repetitions = Plan(given.events, given.files), given.repetitions
    yield f"{machine()}\n"
    if given.only & {"compare", "processes"}:
        with made(plan, given.folder) as folder:
            asked = questions(folder, plan, repetitions + 1)
            yield f"{_size(plan)}; medians of {repetitions}"
            yield from _tables(Place("local folder", str(folder)), asked, given)
            if given.s3:
                with uploaded(folder) as (place, meter):
                    yield from _tables(place, asked, given)
                    if "compare" in given.only:
                        yield from ("", *requests(place, meter, asked))
    if "named" in given.only:
        small = NAMED if plan.events >= NAMED.events else plan
        with made(small, given.folder) as folder:
            yield f"\n{_size(small)}; medians of {repetitions}\n"
            yield from named(folder, repetitions)


def _tables(place: Place, asked: list[Question], given: argparse.Namespace) -> Iterator[str]:
    if "compare" in given.only:
        yield from ("", *compare(place, asked))
    if "processes" in given.only:
        yield from ("", *processes(place, asked, max(1, min(3, given.repetitions))))


def _size(plan: Plan) -> str:
    files = plan.days * plan.workspaces
    return f"{plan.rows * files:,} events in {files:,} files"


def _parts(text: str) -> frozenset[str]:
    if unknown := set(text.split(",")) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{unknown.pop()!r} is none of {', '.join(PARTS)}")
    return frozenset(text.split(","))


def main(arguments: list[str] | None = None) -> None:
    """Make the archives, ask, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    env = os.environ.get
    parser.add_argument(
        "--events", type=int, default=int(env("BENCH_QUERY_EVENTS", "20000000")), help="default: 20 M"
    )
    parser.add_argument(
        "--files", type=int, default=2_000, help="default: 2,000, of 40 workspaces and 50 days"
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        default=7,
        help="counted ones of each question (default: 7); 0 only tries whether all works",
    )
    parser.add_argument("--s3", action="store_true", help="also on an S3 server of its own, in memory")
    parser.add_argument("--folder", type=Path, help="keep the archives here, and use what is there")
    parser.add_argument("--only", type=_parts, default=frozenset(PARTS), help="some of: " + ",".join(PARTS))
    given = parser.parse_args(arguments)
    if given.s3 and (missing := ceph.missing_programs()):
        sys.exit(f"no S3 server: {', '.join(missing)} not found; `make services` installs it")
    # The subprocesses run from anywhere, installed or not.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parents[1]), env("PYTHONPATH")]))
    for line in tables(given):
        print(line, flush=True)


if __name__ == "__main__":
    main()
