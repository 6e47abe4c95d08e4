"""An archive of many events in many files, made quickly, for benchmarks of questions.

    python -m tests.bench.many_files --folder DIR [--events 20000000] [--files 2000]

One run a day, each with a file of every workspace: rows, columns and bodies such as
`archiver generate` and the pipeline give, data files by the program's own writer, commits
by its protocol, its identity index and its Delta log. What is not done is reading and
judging: a few thousand scenes are judged once each, and their rows are repeated with other
ids, times and counters. `archiver verify` accepts the outcome.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archiver import layout
from archiver.archive import init_archive
from archiver.block import Block
from archiver.columns import TIME
from archiver.datafile import Encoding
from archiver.ledger.commit import Committed, commit
from archiver.ledger.entry import Content, Counts, DataFile
from archiver.maintain import after_commits
from archiver.partition import Arranged, Cut
from archiver.sources.base import Input, batch_name
from archiver.store.local import LocalStore
from archiver.synthetic.cast import Workspace, draw_workspaces
from archiver.synthetic.scenes import SLOTS, draw_scene
from archiver.validate import Rules, Validator
from archiver.write import Writer
from tests.bench.bench import say

FIRST_DAY: Final = date(2026, 3, 1)
DAYS: Final = 50
DAY_US: Final = 86_400_000_000
# As many lie behind the newest checkpoint of an archive on the average: a run writes one at 64.
BEHIND_CHECKPOINT: Final = 32
_SCENES: Final = 4_000
_WORTH_PROCESSES: Final = 100_000
_ACTORS: Final = 40
_BUSY: Final = np.array(
    [2, 1.5, 1, 1, 1, 1.5, 3, 5, 8, 10, 11, 11, 9, 10, 11, 10, 9, 7, 5, 4, 3.5, 3, 2.5, 2]
)
_MILLIS: Final = 987_654_321
_MARKS: Final = {
    **{name: f"SLOT{name}" for name in ("id", "resource", "period", "request")},
    "millis": f"{_MILLIS}",
    **dict.fromkeys(("occurred", "created", "last"), "2001-02-03T04:05:06.000000Z"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made: `files` files of `events // files` rows, over at most fifty days."""

    events: int = 20_000_000
    files: int = 2_000
    seed: int = 1

    @property
    def days(self) -> int:
        return min(DAYS, max(1, self.files // 2))

    @property
    def workspaces(self) -> int:
        return self.files // self.days

    @property
    def rows(self) -> int:
        """Return how many a file has."""
        return self.events // (self.days * self.workspaces)

    def day(self, number: int) -> date:
        return FIRST_DAY + timedelta(days=number)


@dataclass(frozen=True, slots=True)
class _Cast:
    """The scenes of all workspaces, judged.

    Attributes:
        names: Of the workspaces.
        scenes: Of each workspace, the numbers of its scenes.
        rows: The columns of each scene.
        bodies, resources, sessions, metadata: Of each scene, what is filled in to make its column.
    """

    names: list[str]
    scenes: list[np.ndarray]
    rows: pa.Table
    bodies: list[bytes]
    resources: list[str | None]
    sessions: list[str | None]
    metadata: list[str | None]


@functools.cache
def _cast(plan: Plan) -> _Cast:
    random = Random(plan.seed)
    workspaces = draw_workspaces(random, plan.workspaces, actors=_ACTORS)
    count = max(20, _SCENES // plan.workspaces)
    bodies: list[bytes] = []
    scenes = []
    for workspace in workspaces:
        first = len(bodies)
        while len(bodies) < first + count:
            bodies += _plain_scene(random, workspace)
        scenes.append(np.arange(first, len(bodies)))
    marks = tuple(_MARKS[name].encode() for name in SLOTS)
    block = Block(0, [text % marks for text in bodies], list(range(len(bodies))), *_nothing(len(bodies)))
    judged = Validator(Rules(source="spool")).validate(block)
    if judged.rejections:
        raise SystemExit(f"a scene is not valid: {judged.rejections[0].detail}")
    rows = pa.Table.from_batches([judged.tables["events"]]).sort_by("ordinal")
    return _Cast(
        [workspace.id for workspace in workspaces],
        scenes,
        rows,
        bodies,
        [_template(one, "resource") for one in rows["resource_id"].to_pylist()],
        [_template(one, "period") for one in rows["session_id"].to_pylist()],
        [_template(one, "request", "millis") for one in rows["metadata"].to_pylist()],
    )


def _plain_scene(random: Random, workspace: Workspace) -> list[bytes]:
    scene = draw_scene(random, workspace, newlines=False)
    return [scene.text] if scene.is_plain else []


def _nothing(count: int) -> tuple[list[int], list[int], list[str | None]]:
    return [0] * count, [0] * count, ["eu"] * count


def _template(value: str | None, *slots: str) -> str | None:
    """Return `value` with a `%s` in place of each slot's mark; a slot that it has not swallows its value."""
    if value is None:
        return None
    text, behind = value.replace("%", "%%"), ""
    for slot in slots:
        if _MARKS[slot] in text:
            text = text.replace(_MARKS[slot], "%s")
        else:
            behind += "%.0s"
    return text + behind


def _rows(cast: _Cast, workspace: int, day: int, count: int, ordinal: int, seed: int) -> pa.RecordBatch:
    """Return `count` rows of one workspace and day (counted from 1970), by time."""
    rng = np.random.default_rng((seed, workspace, day))
    scenes = rng.choice(cast.scenes[workspace], size=count)
    hours = rng.choice(24, size=count, p=_BUSY / _BUSY.sum()).astype(np.int64)
    times = np.sort(day * DAY_US + hours * 3_600_000_000 + rng.integers(0, 3_600_000_000, size=count))
    occurred = np.maximum(times - rng.integers(0, 1 << 20, size=count), day * DAY_US)
    said = [one.encode() + b"Z" for one in np.datetime_as_string(times.astype("M8[us]")).tolist()]
    earlier = [one.encode() + b"Z" for one in np.datetime_as_string(occurred.astype("M8[us]")).tolist()]
    digits = rng.bytes(count * 28).hex()
    drawn = [digits[start : start + 56] for start in range(0, 56 * count, 56)]
    ids = [f"{one[:8]}-{one[8:12]}-4{one[13:16]}-a{one[17:20]}-{one[20:32]}" for one in drawn]
    resources, requests = [one[32:44] for one in drawn], [one[44:] for one in drawn]
    period = f"{day:04x}"
    millis = rng.integers(0, 4096, size=count).tolist()
    numbers = scenes.tolist()
    filled = zip(numbers, ids, resources, requests, millis, earlier, said, strict=True)
    bodies = [
        cast.bodies[scene]
        % (
            *(one.encode(), resource.encode(), period.encode(), request.encode(), b"%d" % duration),
            *(before, at, at),
        )
        for scene, one, resource, request, duration, before, at in filled
    ]
    base = cast.rows.take(pa.array(scenes)).combine_chunks()
    at_us, before_us = pa.array(times).cast(TIME), pa.array(occurred).cast(TIME)
    new: dict[str, Any] = {
        "id": ids,
        "resource_id": _filled(cast.resources, numbers, zip(resources)),
        "session_id": _filled(cast.sessions, numbers, zip([period] * count)),
        "metadata": _filled(cast.metadata, numbers, zip(requests, millis, strict=True)),
        "occurred_at": _where(base["occurred_at"], before_us),
        "created_at": _where(base["created_at"], at_us),
        "timestamp": at_us,
        "event_time": at_us,
        "received_at": pa.array(times + 40_000).cast(TIME),
        "ordinal": np.arange(ordinal, ordinal + count),
        "body": bodies,
    }
    arrays = [
        _array(new[field.name], field.type) if field.name in new else base[field.name].chunk(0)
        for field in base.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=base.schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _filled(
    templates: list[str | None], numbers: list[int], values: Iterable[tuple[Any, ...]]
) -> list[str | None]:
    found = []
    for number, one in zip(numbers, values, strict=True):
        template = templates[number]
        found.append(None if template is None else template % one)
    return found


def _where(base: pa.ChunkedArray, values: pa.Array) -> pa.Array:
    """Return `values`, null where `base` is."""
    return pc.if_else(base.chunk(0).is_valid(), values, pa.scalar(None, values.type))


@dataclass(frozen=True, slots=True)
class _Day:
    """What was written for one day, and is to be committed."""

    input: Input
    batch: str
    attempt: str
    files: list[DataFile]


def _write_day(folder: str, plan: Plan, number: int) -> _Day:
    cast, day = _cast(plan), (plan.day(number) - date(1970, 1, 1)).days
    name = f"{plan.seed} {number}"
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    came = Input(f"{plan.day(number)}.seg", digest, plan.rows * plan.workspaces * 600)
    batch, attempt = (
        batch_name(hashlib.sha256(digest.encode()).hexdigest()[:32], (came,)),
        layout.new_attempt(),
    )
    files: list[DataFile] = []
    with Writer(LocalStore(Path(folder)), batch, attempt, Encoding()) as writer:
        for workspace, named in enumerate(cast.names):
            rows = _rows(cast, workspace, day, plan.rows, workspace * plan.rows, plan.seed)
            cut = Cut(named, day, 0, rows.num_rows)
            files += [one.file for one in writer.write([Arranged(rows, [cut])], "events")]
    return _Day(came, batch, attempt, files)


def _written(folder: Path, plan: Plan) -> Iterator[_Day]:
    """Yield the days as they are written, in order, by as many processes as there are cores."""
    if plan.events < _WORTH_PROCESSES:
        yield from (_write_day(str(folder), plan, number) for number in range(plan.days))
        return
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=spawned) as pool:
        yield from pool.map(_write_day, [str(folder)] * plan.days, [plan] * plan.days, range(plan.days))


def make(folder: Path, plan: Plan) -> None:
    """Make the archive in `folder`, which must not be there yet."""
    archive = init_archive(LocalStore(folder), rounds=0)
    ledger = archive.ledger
    for number, made in enumerate(_written(folder, plan)):
        rows = sum(file.rows for file in made.files)
        content = Content(
            operation="append",
            batch=made.batch,
            attempt=made.attempt,
            source={"name": "spool"},
            inputs=({**asdict(made.input), "elements": rows},),
            added=tuple(made.files),
            counts=Counts(rows, rows),
        )
        if not isinstance(commit(ledger, content, seen=ledger.snapshot.sequence), Committed):
            raise SystemExit(f"day {number} could not be committed")
        after_commits(archive)
        if number == max(0, plan.days - BEHIND_CHECKPOINT) - 1:
            ledger.write_checkpoint()
        if number % 10 == 9:
            say(f"day {number + 1} of {plan.days}")
    archive.identities.update(None)


@contextmanager
def made(plan: Plan, folder: Path | None) -> Iterator[Path]:
    """Give the archive of `plan` below `folder`, made if it is not there; without a folder it is removed.

    One that was made only in part is made again.
    """
    with tempfile.TemporaryDirectory(prefix="many-files-") as scratch:
        root = folder or Path(scratch)
        place = root / f"{plan.events}-{plan.files}-{plan.seed}"
        told = place.with_suffix(".json")
        if not told.exists():
            shutil.rmtree(place, ignore_errors=True)
            root.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            say(f"making {plan.events:,} events in {plan.files:,} files")
            make(place, plan)
            told.write_text(json.dumps({**asdict(plan), "seconds": time.perf_counter() - started}))
        yield place


def main() -> None:
    """Make the archive, or leave it where it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--files", type=int, default=2_000)
    given = parser.parse_args()
    with made(Plan(given.events, given.files), given.folder) as place:
        print(place)


if __name__ == "__main__":
    main()
