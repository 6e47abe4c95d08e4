"""The story that every intact golden archive tells, from its first commit to its last.

It is told with the program's own verbs, by a clock that is set from step to step. Ids say what
they stand for. What is delivered here is what `expected.json` must say is archived.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import clock
from archiver.archive import Archive
from archiver.attempt import Attempt
from archiver.collect import collect
from archiver.compact import Policy, compact
from archiver.config import Retention
from archiver.holds import release_hold, set_hold
from archiver.judging import Judges
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Hold
from archiver.progress import Silent
from archiver.requeue import requeue
from archiver.retain import retain
from archiver.spans import parse_span
from archiver.validate import Rules
from tests.support import MemoryBatch, alert, archive_bodies, event, new_archive

OLD, EVE, DAY = "2026-01-10", "2026-03-25", "2026-03-26"
NUMERIC, ODD, PLAIN = "0012", "a b/ü", "ws_1"
_ASKS_FOR_TENANT = json.dumps({"properties": {"data": {"required": ["tenant_id"]}}})
_DEAD = "0" * 32
_HOUR_US = 3_600_000_000

FULL: dict[str, Any] = {
    "actor_name": "Zoë \U0001f98a",
    "actor_type": "user",
    "action_category": "documents",
    "resource": "document",
    "resource_id": "doc_1",
    "resource_name": 'a "quoted" name, with a \\ in it',
    "targets": [{"type": "folder", "id": "f_1"}],
    "metadata": {"n": 1.50, "deep": {"x": [None, True]}, "big": 123456789012345678901234567890},
    "tenant_id": "t_1",
    "session_id": "s_1",
    "idempotency_key": "k_1",
    "version": 3,
    "ip_address": "192.0.2.7",
    "user_agent": "test",
    "ip_country": "NL",
    "ip_city": "Utrecht",
    "occurred_at": f"{DAY}T09:00:00.123456789Z",
    "created_at": f"{DAY}T11:00:01+02:00",
    "event_hash": "ab" * 32,
    "previous_event_hash": "cd" * 32,
}


def nested(event_id: str, *, workspace: str, timestamp: str, **data: Any) -> bytes:
    """Return an event in the nested shape."""
    members = {
        "id": event_id,
        "actor": {"id": "user_2", "name": "Ada", "type": "user"},
        "action": "document.read",
        "resource": {"type": "document", "id": "doc_2", "name": "two"},
        "integrity": {"event_hash": "ef" * 32, "previous_event_hash": "ab" * 32},
    }
    tree = {
        "event_type": "event.created",
        "data": members | data,
        "workspace_id": workspace,
        "timestamp": timestamp,
        "beside": {"no": "column"},
    }
    return json.dumps(tree).encode()


RUBBISH = (
    b'{"event_type":"event.created",',
    b"\xff\xfe no text",
    b'{"event_type":"event.created","event_type":"event.created"}',
    b'{"event_type":"session.started","id":"of-another-kind"}',
    b'{"event_type":"event.created","data":{"id":"no-action","actor_id":"u"},"workspace_id":"ws_1",'
    b'"timestamp":"2026-03-26T08:00:00Z"}',
    b'{"event_type":"event.created","data":{"n":NaN}}',
)


class Told:
    """The archive as it grows, and the clock."""

    def __init__(self, folder: Path, form: str, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.now_us = clock.from_text(f"{DAY}T12:00:00.000000Z")
        patch.setattr(clock, "now_us", lambda: self.now_us)
        patch.setattr("archiver.maintain._CHORES", {})
        patch.setattr("time.time_ns", lambda: self.now_us * 1_000)
        self.archive: Archive = new_archive(folder, format=form, level=3)

    def append(self, *bodies: bytes, schemas: dict[str, str] | None = None) -> None:
        self.now_us += _HOUR_US
        if schemas is None:
            archive_bodies(self.archive, *bodies)
            return
        _append(self.archive, *bodies, rules=Rules(source="spool", schemas=schemas))

    def from_table(self, *bodies: bytes, before: Any, after: Any) -> None:
        """Append what a source with a cursor would have read."""
        self.now_us += _HOUR_US
        source = {"name": "table", "before": before, "after": after}
        _append(self.archive, *bodies, rules=Rules(source="table"), source=source)

    def requeue(self) -> None:
        self.now_us += _HOUR_US
        requeue(self.archive, lambda name: Rules(source=name), lambda one: one.rejection.event_id == "late")

    def fence(self) -> None:
        """Leave the files of an attempt that died, and declare it dead."""
        self.now_us += _HOUR_US
        abandon(self.archive, event("never-committed"))
        collect(self.archive, grace=timedelta(0), keep_snapshots=timedelta(days=400), force=True)

    def compact(self) -> None:
        self.now_us += _HOUR_US
        done = compact(self.archive, Policy(min_files=2))
        assert done.files_before > done.files_after

    def hold(self, name: str, workspace: str | None, since: str | None, until: str | None) -> None:
        self.now_us += _HOUR_US
        times = [
            None if text is None else clock.from_text(f"{text}T00:00:00.000000Z") for text in (since, until)
        ]
        cover = Hold(name, workspace, times[0], times[1], reason="asked for in writing")
        set_hold(self.archive, cover, replace_cover=True)

    def release(self, name: str) -> None:
        self.now_us += _HOUR_US
        release_hold(self.archive, name, reason="the case is closed")

    def expire(self) -> None:
        self.now_us += _HOUR_US
        done = retain(self.archive, Retention(keep=parse_span("40d")))
        assert done.commits

    def collect(self) -> None:
        """Let go of what was superseded, and say so in the ledger."""
        self.now_us += _HOUR_US
        before = self.archive.ledger.snapshot.oldest_readable
        collect(self.archive, grace=timedelta(0), keep_snapshots=timedelta(hours=2), force=True)
        assert self.archive.ledger.snapshot.oldest_readable > before


def _append(
    archive: Archive, *bodies: bytes, rules: Rules, source: dict[str, Any] | None = None, commit: bool = True
) -> None:
    given = MemoryBatch(bodies)
    attempt = Attempt(archive, given.batch, source=rules.source, inputs=["memory"])
    with Judges(rules, workers=0) as judges:
        attempt.work(judges.judge(given.read(), total_bytes=0), Silent())
    if commit:
        content = attempt.content(operation="append", source=source or {"name": rules.source})
        assert isinstance(protocol.commit(archive.ledger, content, seen=attempt.seen), protocol.Committed)


def abandon(archive: Archive, *bodies: bytes) -> None:
    """Write what an attempt writes, and commit nothing."""
    _append(archive, *bodies, rules=Rules(source="spool"), commit=False)


@contextlib.contextmanager
def _telling(folder: Path, form: str) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patch:
        yield Told(folder, form, patch)


def tell(folder: Path, form: str = "parquet", *, remember: Callable[[], object] | None = None) -> Archive:
    """Build the archive of the whole story in `folder`.

    Args:
        remember: Called twice on the way, never at the end; may write caches.
    """
    with _telling(folder, form) as told:
        _beginnings(told)
        _small_files(told)
        if remember is not None:
            remember()
        _holds_and_expiry(told)
        if remember is not None:
            remember()
        _ends(told)
        return told.archive


def _beginnings(told: Told) -> None:
    told.append(
        event("numeric-workspace", workspace=NUMERIC, timestamp=f"{EVE}T23:59:59.999999Z"),
        event("odd-workspace", workspace=ODD, timestamp=f"{DAY}T00:00:00Z"),
        event("full", workspace=PLAIN, timestamp=f"{DAY}T09:00:00.5Z", **FULL),
        event("far-east", workspace=PLAIN, timestamp=f"{DAY}T01:00:00+14:00"),
        event("sub-microsecond", workspace=PLAIN, timestamp=f"{DAY}T09:00:00.0000019Z"),
        event("half-character", workspace=PLAIN, actor_name="\ud800", version=10**30),
        event("laid-out", workspace=PLAIN).replace(b",", b" ,\r\n\t"),
        event("twice", workspace=PLAIN),
        event("twice", workspace=PLAIN),
        alert("alert", workspace=PLAIN, reason="a new country", event={"id": "full"}),
        alert("alert-odd", workspace=ODD, note="no column"),
        event("old-and-held", workspace=NUMERIC, timestamp=f"{OLD}T10:00:00Z"),
        event("old", workspace=PLAIN, timestamp=f"{OLD}T10:00:00Z"),
        *RUBBISH,
    )
    told.append(
        nested("nested", workspace=ODD, timestamp=f"{DAY}T10:00:00Z"),
        nested("nested-unknown", workspace=PLAIN, timestamp=f"{DAY}T10:00:00Z", seal={"v": 2}),
        event("twice", workspace=PLAIN),
        event("odd-workspace", workspace=ODD, timestamp=f"{DAY}T00:00:00Z", session_id="s_9"),
        event("numeric-workspace", workspace=NUMERIC, timestamp=f"{EVE}T23:59:59.999999Z", action="another"),
        alert("alert", workspace=PLAIN, rule_name="country"),
    )
    asking = {"events": _ASKS_FOR_TENANT}
    told.append(event("late"), event("in-time", tenant_id="t_1"), event("never"), schemas=asking)
    told.requeue()
    told.patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 2)
    told.append(*(event(f"listed-{n}", workspace=f"ws_{n}") for n in range(2, 6)))
    told.patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 1_000)
    told.fence()
    told.from_table(event("row-1", workspace=ODD), before=None, after={"id": 1})
    told.from_table(event("row-2", workspace=ODD), before={"id": 1}, after={"id": 2})


def _small_files(told: Told) -> None:
    for n in range(4):
        told.append(
            event(f"small-{n}", workspace=PLAIN, timestamp=f"{DAY}T14:00:{30 - n:02d}Z"),
            event(f"small-same-time-{n}", workspace=PLAIN, timestamp=f"{DAY}T15:00:00Z"),
            event(f"small-numeric-{n}", workspace=NUMERIC, timestamp=f"{DAY}T13:30:00.00000{n}Z"),
            alert(f"small-alert-{n}", workspace=PLAIN),
        )
    told.compact()


def _holds_and_expiry(told: Told) -> None:
    told.hold("case-1", PLAIN, None, EVE)
    told.hold("case-1", NUMERIC, OLD, "2026-01-11")
    told.hold("case-2", None, None, None)
    told.release("case-2")
    told.hold("case-3", PLAIN, DAY, None)
    told.expire()
    told.append(
        event("after-expiry", workspace=PLAIN),
        event("small-0", workspace=PLAIN, timestamp=f"{DAY}T14:00:30Z"),
    )
    told.now_us += 2 * _HOUR_US
    told.append(event("another-hour", workspace=ODD))
    told.now_us += 2 * _HOUR_US
    told.collect()


def _ends(told: Told) -> None:
    told.append(
        event("last-1", workspace=PLAIN),
        event("small-1", workspace=PLAIN, timestamp=f"{DAY}T14:00:29Z", version=9),
    )
    told.append(event("last-2", workspace=PLAIN, timestamp=f"{DAY}T14:00:28Z"))
    told.compact()
    told.append(event("very-last", workspace=NUMERIC), event("last-2", workspace=PLAIN, action="another"))
    abandon(told.archive, event("of-a-run-at-work"))


def tell_short(folder: Path, form: str = "parquet") -> Archive:
    """Build the small archive that is there to be damaged; each commit says what it is good for."""
    with _telling(folder, form) as told:
        told.patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 1)
        told.append(  # 1: a list, a quarantine file, a duplicate
            event("one", timestamp=f"{DAY}T10:00:00Z"),
            event("two", timestamp=f"{DAY}T10:00:01Z"),
            event("three", timestamp=f"{DAY}T10:00:02Z"),
            event("one", timestamp=f"{DAY}T10:00:00Z"),
            event("held", workspace="ws_2", timestamp=f"{DAY}T10:00:00Z"),
            *RUBBISH[:3],
        )
        told.patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 1_000)
        told.append(  # 2: equal times, a supplement
            event("four", timestamp=f"{DAY}T10:00:01Z"),
            event("five", timestamp=f"{DAY}T10:00:04Z"),
            event("two", timestamp=f"{DAY}T10:00:01Z", session_id="s_1"),
        )
        told.append(event("late"), event("never"), schemas={"events": _ASKS_FOR_TENANT})  # 3
        told.requeue()  # 4
        told.compact()  # 5: what stood in 1, 2 and 4
        told.hold("case-1", "ws_2", None, None)  # 6
        told.fence()  # 7
        told.from_table(event("row-1", workspace="ws_3"), before=None, after={"id": 1})  # 8
        told.append(
            event("six", timestamp=f"{DAY}T10:00:05Z"), event("seven", timestamp=f"{DAY}T10:00:06Z")
        )  # 9
        return told.archive
