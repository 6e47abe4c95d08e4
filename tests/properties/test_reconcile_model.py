"""What a comparison calls missing, or only archived, is what a model made of two lists calls so.

The database is a stand-in: a list of rows. The archive is real, and filled as a run fills it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver import clock
from archiver import reconcile as reconciling
from archiver.columns import TIME
from archiver.database.base import DayCount
from archiver.database.cursor import Cursor, Origin
from archiver.database.fetched import Fetched
from archiver.database.settings import Database
from archiver.pipeline import run
from archiver.reconcile import comparison, portions
from archiver.validate import Rules
from tests.support import MemoryBatch, MemorySource, archive_bodies, event, new_archive, row, rows_of

DAY_US = 86_400_000_000
ORIGIN = Origin("server", 1, "1", "events")
CURSOR = Cursor("xid8", ORIGIN, "5", ("~",))
TIMES = (
    "2026-03-25T23:59:59.900000Z",
    "2026-03-26T00:00:00.000000Z",
    "2026-03-26T12:00:00.000000Z",
    "2026-03-27T00:00:01.000000Z",
    "2026-03-29T12:00:00.000000Z",
    "2026-04-20T12:00:00.000000Z",
    "2026-05-05T12:00:00.000000Z",
)
SINCE, UNTIL = clock.from_text("2026-03-26T00:00:00.000000Z"), clock.from_text("2026-03-30T00:00:00.000000Z")


@dataclass(frozen=True)
class Kept:
    """A row that the database has, and what became of it."""

    id: str
    workspace: str
    at: str
    fate: str  # run, refused, passed_over, waiting
    number: int = 0

    @property
    def at_us(self) -> int:
        return clock.from_text(self.at)

    @property
    def body(self) -> bytes:
        members: dict[str, Any] = {"created_at": self.at}
        if self.fate == "refused":
            members["action"] = None
        return row(self.id, workspace=self.workspace, **members)


@dataclass
class ListedRows:
    """A stand-in for a database's rows."""

    kept: list[Kept]
    layout: tuple[Fetched, ...] = ()
    strategy: str = "xid8"
    origin: Origin = ORIGIN
    keys: int = 1
    asked: list[str] = field(default_factory=list)

    def by_time(self) -> ListedRows:
        return self

    def close(self) -> None:
        pass

    def counts(self, since_us: int, until_us: int, upto: Cursor) -> Iterator[DayCount]:
        places: dict[tuple[str, int], list[int]] = {}
        for one in self.kept:
            if since_us <= one.at_us < until_us:
                count = places.setdefault((one.workspace, one.at_us // DAY_US), [0, 0])
                count[one.fate == "waiting"] += 1
        for (workspace, day), (due, waiting) in places.items():
            yield DayCount(workspace, day, due, waiting)

    @contextlib.contextmanager
    def listed(
        self, workspaces: Collection[str | None] | None, since_us: int, until_us: int, upto: Cursor
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        found = [
            one
            for one in self.kept
            if since_us <= one.at_us < until_us
            and one.fate != "waiting"
            and (workspaces is None or one.workspace in workspaces)
        ]
        yield iter([_batch(found[start : start + 2], place=True) for start in range(0, len(found), 2)])

    def known(self, ids: Sequence[str], upto: Cursor) -> Iterator[pa.RecordBatch]:
        found = [one for one in self.kept if one.id in ids]
        if found:
            yield _batch(found, place=False)


def _batch(found: list[Kept], *, place: bool) -> pa.RecordBatch:
    columns = {
        "workspace": pa.array([one.workspace for one in found], pa.string()),
        "id": pa.array([one.id for one in found], pa.string()),
        "at": pa.array([one.at_us for one in found], pa.int64()).cast(TIME),
    }
    if place:
        columns["p"] = pa.array(["1"] * len(found))
        columns["k0"] = pa.array([str(one.number) for one in found])
    else:
        columns["due"] = pa.array([one.fate != "waiting" for one in found])
    return pa.RecordBatch.from_pydict(columns)


class _Moving(MemoryBatch):
    """A batch whose commit tells a cursor."""

    def moves(self) -> dict[str, Any]:
        return {"before": None, "after": CURSOR.to_json()}


ROWS = st.lists(
    st.builds(
        Kept,
        st.sampled_from("abcd"),
        st.sampled_from(("ws_1", "ws_2")),
        st.sampled_from(TIMES),
        st.sampled_from(("run", "run", "run", "refused", "passed_over", "waiting")),
    ),
    max_size=12,
)
WEBHOOKS = st.lists(
    st.tuples(st.sampled_from("abcdwx"), st.sampled_from(("ws_1", "ws_2")), st.sampled_from(TIMES)),
    max_size=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, webhooks=WEBHOOKS, purged=st.sets(st.integers(0, 11)), small=st.booleans())
def test_a_comparison_of_all_ids_finds_what_two_lists_tell(
    rows: list[Kept], webhooks: list[tuple[str, str, str]], purged: set[int], small: bool
) -> None:
    rows = [Kept(one.id, one.workspace, one.at, one.fate, n) for n, one in enumerate(rows)]
    folder = Path(tempfile.mkdtemp())
    try:
        archive = new_archive(folder / "archive")
        archive_bodies(archive, *(event(one, workspace=w, timestamp=at) for one, w, at in webhooks))
        read = [one for one in rows if one.fate in ("run", "refused")]
        source = MemorySource([_Moving([one.body for one in read], shape="row")], name="app")
        run(archive, source, rules=Rules(source="app"), workers=0)
        events = rows_of(archive)
        kept = [one for one in rows if one.number not in purged]
        found, told = _compared(archive, kept, every_id=True, small=small)
        counted, _ = _compared(archive, kept, every_id=False, small=small)
    finally:
        shutil.rmtree(folder)
    window = 31 * DAY_US
    archived = [(one["workspace_id"], one["id"], clock.to_us(one["event_time"])) for one in events]
    refused = {(one.workspace, one.id) for one in read if one.fate == "refused"}
    expected = sorted(
        str(one.number)
        for one in kept
        if SINCE <= one.at_us < UNTIL
        and one.fate != "waiting"
        and (one.workspace, one.id) not in refused
        and not any(
            (w, i) == (one.workspace, one.id) and abs(at - one.at_us) <= window for w, i, at in archived
        )
    )
    alone = sorted(
        (w, i, at)
        for w, i, at in archived
        if SINCE <= at < UNTIL
        and not any((w, i) == (one.workspace, one.id) and abs(at - one.at_us) <= window for one in kept)
    )
    assert found == expected
    assert told == alone
    assert set(counted) <= set(expected)


def _compared(
    archive: Any, kept: list[Kept], *, every_id: bool, small: bool
) -> tuple[list[str], list[tuple[str | None, str | None, int]]]:
    source = Database("app", url_env="NONE", table="events")
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(reconciling, "open_rows", return_value=ListedRows(kept)))
        if small:
            patches.enter_context(mock.patch.object(portions, "PORTION_ROWS", 1))
            patches.enter_context(mock.patch.object(portions.divided, "__defaults__", (1,)))
            patches.enter_context(mock.patch.object(comparison, "_ASKED_AT_ONCE", 2))
        report = reconciling.reconcile(
            archive, source, since_us=SINCE, until_us=UNTIL, every_id=every_id, limit=100
        )
    assert report.missing == len(report.missing_rows) == sum(one.missing for one in report.days)
    assert report.only_archived == sum(one.only_archived for one in report.days)
    missing = sorted(one.key[0] for one in report.missing_rows)
    return missing, sorted((one.workspace, one.id, one.at_us) for one in report.only_archived_events)
