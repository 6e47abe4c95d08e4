"""What a run did, as metrics in a text file, for the textfile collector of node_exporter.

The text is valid in two formats at once, Prometheus' text format 0.0.4 and OpenMetrics 1.0:
gauges only, no times of their own, and a last line (`# EOF`) that is a comment in the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from archiver import durable
from archiver.block import REASONS
from archiver.config import Settings
from archiver.errors import ArchiverError, SourceError
from archiver.pipeline import RunReport
from archiver.silence import Hearing, hearings
from archiver.sources.names import printable
from archiver.sources.waiting import SpoolWaiting, count_waiting

GOOD_EXIT_CODES: Final = (0, 3)
READABLE_BY_ALL: Final = 0o644

_LAST_SUCCESS: Final = "archiver_run_last_success_timestamp_seconds"
_LARGEST_BYTES: Final = 1 << 20
_DATABASE_SUCCESS: Final = "archiver_run_database_last_success_timestamp_seconds"

Samples = list[tuple[dict[str, str], float]]


class Family(NamedTuple):
    """One metric: its name, what it tells, and its values by labels."""

    name: str
    told: str
    samples: Samples


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that came to its end. Times in microseconds since 1970.

    Attributes:
        report: What it did, as far as it came.
    """

    report: RunReport
    exit_code: int
    started_us: int
    ended_us: int


@dataclass(slots=True)
class Left:
    """What lies behind a run, as far as it could be read.

    Attributes:
        databases: When a run last went well over each of the configured ones; None if nobody knows.
    """

    waiting: dict[str, SpoolWaiting] = field(default_factory=dict)
    heard: list[Hearing] = field(default_factory=list)
    databases: dict[str, float | None] = field(default_factory=dict)


def write_run_metrics(path: Path, ended: Ended, settings: Settings, besides: Iterable[Family] = ()) -> None:
    """Write a run's metrics to `path`, whole or not at all, readable by all users.

    When the last run went well is kept from the file that is there, if this one did not.

    Args:
        besides: More metrics, which stand behind those of the run.

    Raises:
        ArchiverError: It cannot be written. What was there is still there.
    """
    success = ended.ended_us / 1_000_000 if ended.exit_code in GOOD_EXIT_CODES else _success_in(path)
    left = _left(settings, ended.ended_us)
    left.databases = {
        name: ended.ended_us / 1_000_000
        if ended.report.databases.get(name, {}).get("went_well")
        else _success_in(path, _DATABASE_SUCCESS, name)
        for name in settings.sources
    }
    text = exposition(chain(families(ended, left, success), besides))
    try:
        durable.replace(path, text.encode(), mode=READABLE_BY_ALL)
    except OSError as error:
        raise ArchiverError(
            f"{path}: the metrics cannot be written: {error.strerror}",
            hint="the run itself is done, and what it archived is acknowledged",
        ) from error


def families(ended: Ended, left: Left, success: float | None) -> Iterator[Family]:
    """Yield every metric of a run."""
    yield from _of_time(ended, success)
    yield from _of_events(ended.report)
    yield from _of_spools(left, ended.ended_us)
    yield from _of_streams(left)
    yield from _of_databases(ended.report, left)


def exposition(found: Iterable[Family]) -> str:
    """Write metrics as text, of both formats."""
    lines = []
    for family in found:
        lines.append(f"# HELP {family.name} {_escaped(family.told)}")
        lines.append(f"# TYPE {family.name} gauge")
        for labels, value in family.samples:
            told = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items())
            lines.append(f"{family.name}{{{told}}} {value!r}" if told else f"{family.name} {value!r}")
    return "\n".join([*lines, "# EOF", ""])


def _of_time(ended: Ended, success: float | None) -> Iterator[Family]:
    report = ended.report
    seconds = (ended.ended_us - ended.started_us) / 1_000_000
    yield _one("archiver_run_timestamp_seconds", "When the last run ended.", ended.ended_us / 1_000_000)
    yield Family(
        _LAST_SUCCESS,
        "When a run last ended with 0 or 3; absent if none is known of.",
        [] if success is None else [({}, success)],
    )
    yield _one("archiver_run_duration_seconds", "How long the last run took.", max(seconds, 0.0))
    yield _one("archiver_run_exit_code", "How the last run ended; see the exit codes.", ended.exit_code)
    yield _one("archiver_run_problems", "What could not be read, locked or compacted.", len(report.problems))
    yield Family(
        "archiver_run_head_sequence",
        "The ledger's head when the last run ended; absent if it did not come so far.",
        [({}, float(report.head))] if report.head >= 0 else [],
    )


def _of_events(report: RunReport) -> Iterator[Family]:
    counts = report.counts
    yield _one("archiver_run_read", "Elements that the last run read.", counts.read)
    yield Family(
        "archiver_run_events",
        "What became of them.",
        [
            ({"outcome": "archived"}, float(counts.archived)),
            ({"outcome": "supplement"}, float(counts.supplements)),
            ({"outcome": "duplicate"}, float(counts.duplicates)),
            ({"outcome": "quarantined"}, float(counts.quarantined)),
        ],
    )
    # All reasons there are: an absent series that appears is no increase to who watches it.
    yield Family(
        "archiver_run_quarantined",
        "Why elements were quarantined.",
        [({"reason": reason}, float(report.reasons.get(reason, 0))) for reason in REASONS],
    )
    yield _one("archiver_run_commits", "Commits that the last run made.", len(report.commits))
    yield _one("archiver_run_files", "Data files that it wrote.", report.files)
    yield _one("archiver_run_read_bytes", "Bytes that it read, as they lay on disk.", report.bytes_read)
    yield _one("archiver_run_written_bytes", "Bytes of the data files that it wrote.", report.bytes_written)


def _of_spools(left: Left, now_us: int) -> Iterator[Family]:
    archive = [({"spool": spool}, found.archive) for spool, found in left.waiting.items()]
    consumers = [
        ({"spool": spool, "consumer": name}, one)
        for spool, found in left.waiting.items()
        for name, one in found.consumers.items()
        if one.is_complete  # else it cannot be read: nothing is better than a 0
    ]
    for prefix, whose, waiting in (
        ("archiver_run_backlog", "the archive", archive),
        ("archiver_run_consumer_backlog", "this consumer", consumers),
    ):
        yield Family(
            f"{prefix}_files",
            f"Files that {whose} has not taken when the last run ended.",
            [(labels, float(one.files)) for labels, one in waiting],
        )
        yield Family(
            f"{prefix}_bytes",
            "Bytes of these files.",
            [(labels, float(one.bytes)) for labels, one in waiting],
        )
        yield Family(
            f"{prefix}_oldest_seconds",
            "Age of the oldest of them; 0 if there is none.",
            [(labels, one.oldest_seconds(now_us)) for labels, one in waiting],
        )
    yield Family(
        "archiver_run_live_segments",
        "Segments that grow, or that dead receivers left.",
        [({"spool": spool}, float(found.live_segments)) for spool, found in left.waiting.items()],
    )


def _of_streams(left: Left) -> Iterator[Family]:
    yield Family(
        "archiver_run_stream_silent_seconds",
        "Seconds since the last delivery, as the last run saw it; before the first, since somebody listens.",
        [_of_stream(one, one.silent_seconds) for one in left.heard if one.silent_seconds is not None],
    )
    yield Family(
        "archiver_run_stream_last_delivery_timestamp_seconds",
        "When the last delivery was stored; absent before the first one.",
        [
            _of_stream(one, one.last_delivery_at / 1_000_000)
            for one in left.heard
            if one.last_delivery_at is not None
        ],
    )
    yield Family(
        "archiver_run_stream_silent_after_seconds",
        "For how long it may be silent, as configured; absent without.",
        [
            _of_stream(one, one.silent_after_seconds)
            for one in left.heard
            if one.silent_after_seconds is not None
        ],
    )


def _of_databases(report: RunReport, left: Left) -> Iterator[Family]:
    # Of one that could not be read nothing is known: no number is better than a 0.
    found = {name: one for name, one in report.databases.items() if one["went_well"]}
    yield Family(
        "archiver_run_database_read",
        "Rows that the last run read from it; absent if it could not.",
        [({"source": name}, float(one["read"])) for name, one in found.items()],
    )
    yield Family(
        "archiver_run_database_waiting_rows",
        "Committed rows, at most a million, that may not be read yet: too young, or a transaction is open.",
        [({"source": name}, float(one["rows"])) for name, one in found.items()],
    )
    yield Family(
        "archiver_run_database_lag_seconds",
        "For how long what holds rows back has been there.",
        [({"source": name}, float(one["seconds"])) for name, one in found.items()],
    )
    yield Family(
        _DATABASE_SUCCESS,
        "When a run last went well over it; absent if none is known of.",
        [({"source": name}, when) for name, when in left.databases.items() if when is not None],
    )


def _left(settings: Settings, now_us: int) -> Left:
    """Look into the spools; one that cannot be read is told by the run itself."""
    left = Left()
    for folder in settings.spool_folders:
        try:
            left.waiting[printable(folder)] = count_waiting(Path(folder))
        except SourceError:
            continue
    try:
        found = hearings(settings.streams, settings.spool_folders, now_us)
    except SourceError:
        return left
    # What is not configured is one stream at most, that of a receiver without a configuration.
    left.heard = [one for one in found if one.is_configured or not settings.streams][: _most(settings)]
    return left


def _most(settings: Settings) -> int:
    return len(settings.streams) or 1


def _success_in(path: Path, name: str = _LAST_SUCCESS, source: str | None = None) -> float | None:
    """Return when a run last went well, as the file of an earlier one tells; None if none does.

    Args:
        source: Over this database, if one is named. A source's name has nothing to escape.
    """
    try:
        if not path.is_file():  # nobody may ever write to a pipe
            return None
        with path.open("rb") as file:
            text = file.read(_LARGEST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None
    labels = "" if source is None else f'{{source="{source}"}}'
    found = re.search(rf"^{re.escape(name + labels)} ([0-9.e+]{{1,32}})$", text, re.MULTILINE | re.ASCII)
    try:
        value = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _one(name: str, told: str, value: float) -> Family:
    return Family(name, told, [({}, float(value))])


def _of_stream(hearing: Hearing, value: float) -> tuple[dict[str, str], float]:
    return {"stream": hearing.stream}, float(value)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
