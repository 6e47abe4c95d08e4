"""An archive, two hosts that work on it, and a dictionary beside it that says what must be there.

The machine does the operations of an operator in any order, alone, with a fault at some
call of the store, and with the other host doing something of its own at some call. What it
compares is rows: (dataset, workspace, id, time, body). What it holds to be right:

- a run or a requeue only adds rows, an expiry only takes rows away, and nothing else changes any;
- an expiry takes exactly the files of days before its cutoff that no hold covers, and if it
  was disturbed, some of them;
- what a hold covered when it was set, or came since, stays until it is released, and so do
  the objects of what had expired before it came;
- an identity that expired may come back only by a delivery that was not archived yet when
  it expired: one that was sent later, lay in a spool, or was in quarantine;
- each snapshot that was seen once gives the same rows for as long as it can be asked for,
  and is refused below `oldest_readable`;
- caches (checkpoints, the index) may vanish or rot at any time, and nobody notices.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

import pytest

from archiver import clock, layout, maintain
from archiver.archive import Archive, AsOf, open_archive
from archiver.collect import collect
from archiver.columns import IDENTITY_COLUMN
from archiver.compact import Policy, compact
from archiver.config import Retention
from archiver.datafile import decode
from archiver.delta import checkpoint as delta_checkpoint
from archiver.delta.publish import publish
from archiver.errors import ArchiverError, ConfigError
from archiver.holds import release_hold, set_hold
from archiver.ledger import commit as protocol
from archiver.ledger.entry import DataFile, Hold, digest_of
from archiver.ledger.snapshot import Snapshot
from archiver.pipeline import run
from archiver.requeue import entries, requeue
from archiver.retain import retain
from archiver.sources.spool import SpoolSource
from archiver.spans import Span, parse_span
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.faults.faulty_store import Call, Fault, FaultPlan, FaultyStore
from tests.support import event, new_archive

Row = tuple[str, str, str, int, str]  # dataset, workspace, id, microseconds, body
Operation = Callable[[Archive, "Host"], object]

IDS: Final = 24
DAYS: Final = ("2026-03-26", "2026-05-05", "2026-06-14")  # eight ids lie on each, four of either workspace
STARTS_AT: Final = clock.to_us(datetime(2026, 6, 15, tzinfo=UTC))
DAY_US: Final = 86_400_000_000
STRICT: Final = Rules(
    source="spool", schemas={"events": '{"properties":{"data":{"not":{"required":["late"]}}}}'}
)
RELAXED: Final = Rules(source="spool")
KINDS: Final = ("plain", "plain", "again", "more", "contradicting", "late", "rubbish")
CACHES: Final = (layout.CHECKPOINTS, layout.INDEX)
_MEMBERS: Final[dict[str, dict[str, object]]] = {
    "plain": {},
    "again": {},
    "more": {"ip_city": "Berlin"},
    "contradicting": {"action": "document.deleted"},
    "late": {"late": True},
}


def body(number: int, kind: str) -> bytes:
    """Return what is sent under an id: `more` adds to `plain`, `contradicting` contradicts it.

    `late` is refused by today's rules and passes after a repair. `again` is `plain`, sent a
    day later.
    """
    if kind == "rubbish":
        return b'{"rubbish":%d' % number
    day = datetime.fromisoformat(DAYS[number * len(DAYS) // IDS]) + timedelta(kind == "again")
    workspace = f"w{number % 2}"
    return event(f"e{number}", workspace=workspace, timestamp=f"{day:%Y-%m-%d}T10:15:00Z", **_MEMBERS[kind])


@dataclass
class Host:
    """One machine with a spool of its own. `keeps` leaves its archive open, and so behind the others."""

    spool: Path
    store: FaultyStore
    keeps: bool = False
    archive: Archive | None = None
    files: int = 0

    def opened(self) -> Archive:
        if self.archive is None or not self.keeps:
            self.archive = open_archive(self.store)
        return self.archive

    def deliver(self, bodies: Collection[bytes]) -> None:
        self.files += 1
        (self.spool / f"{self.files:04}.jsonl").write_bytes(b"\n".join(bodies))


class Interruption(FaultPlan):
    """Does something else at the call with this number, once, and keeps what came of it."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        super().__init__()
        self._number = number
        self._act: Callable[[], None] | None = act
        self.error: Exception | None = None

    def take(self, call: Call) -> Fault | None:
        fault = super().take(call)
        if len(self.calls) >= self._number and self._act is not None:
            act, self._act = self._act, None
            try:
                act()
            except Exception as error:  # whoever made the call has no part in it
                self.error = error
        return fault


@dataclass
class World:
    """The archive on one side, what must be there on the other.

    Attributes:
        delivered: Every body, as often as it was sent.
        expired: Ids of which a row has ever expired.
        absent: Ids that expired and that nothing may bring back but another delivery.
        protected: By hold, the rows that must not go.
        remembered: By sequence, the rows of its snapshot.
        met: How often what has happened; class-wide, for a search to say what it saw.
    """

    place: Path
    delivered: Counter[bytes] = field(default_factory=Counter)
    expired: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    protected: dict[str, set[Row]] = field(default_factory=dict)
    remembered: dict[int, Counter[Row]] = field(default_factory=dict)
    plans: list[FaultPlan] = field(default_factory=list)
    now_us: int = STARTS_AT
    met: ClassVar[Counter[str]] = Counter()

    def __post_init__(self) -> None:
        self.store = LocalStore(self.place / "archive")
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(clock, "now_us", lambda: self.now_us)
        quick = {**protocol.commit.__kwdefaults__, "pause": lambda _: None}  # type: ignore[dict-item]
        self.patch.setattr(protocol.commit, "__kwdefaults__", quick)
        # Small archives shall have what large ones have.
        self.patch.setattr(maintain, "CHECKPOINT_COMMITS", 3)
        self.patch.setattr(delta_checkpoint, "EVERY", 4)
        self.hosts = [self._host("spool", keeps=False), self._host("spool-2", keeps=True)]
        self._contents: dict[str, Counter[Row]] = {}
        self.archive = new_archive(self.store)
        self.look()

    def _host(self, name: str, *, keeps: bool) -> Host:
        (self.place / name).mkdir()
        return Host(self.place / name, FaultyStore(self.store, FaultPlan()), keeps)

    # what is there

    def rows(self, files: Collection[DataFile]) -> Counter[Row]:
        """Return the rows of these files; each must be there, and each is read once."""
        found: Counter[Row] = Counter()
        for file in files:
            if file.key not in self._contents:
                self._contents[file.key] = _rows_of(self.store, file)
            assert Path(self.store.local_path(file.key) or "").is_file(), f"{file.key} is live and not there"
            found += self._contents[file.key]
        return found

    def live(self) -> Counter[Row]:
        return self.rows(self.archive.ledger.refresh().files.select())

    def waiting(self) -> set[str]:
        """Return the ids that lie in a spool or in quarantine."""
        lines = [
            line
            for host in self.hosts
            for path in host.spool.rglob("*.jsonl")
            for line in path.read_bytes().split(b"\n")
        ]
        lines += [entry.rejection.body for entry in entries(open_archive(self.store))]
        return {json.loads(line)["data"]["id"] for line in lines if b'"data"' in line}

    # what is done

    def deliver(self, host: Host, bodies: list[bytes]) -> None:
        host.deliver(bodies)
        self.delivered.update(bodies)
        self.absent -= {json.loads(one)["data"]["id"] for one in bodies if b'"data"' in one}

    def act(self, host: Host, name: str, *, plan: FaultPlan | None = None, besides: str = "") -> None:
        """Do one operation, and hold what it changed against what it may change.

        Args:
            plan: What its store does to it; it may fail by that, and by nothing else.
            besides: What another host does meanwhile.
        """
        before, head = self.live(), self.archive.ledger.snapshot
        expiring, kept = self._expiring(head), self.held_objects()
        host.store.plan = plan or FaultPlan()
        try:
            OPERATIONS[name](host.opened(), host)
        except ArchiverError:
            if plan is None:
                raise
            host.archive = None  # a process that failed is gone
            self.met[f"{name} failed"] += 1
        finally:
            host.store.plan = FaultPlan()
        self._judge(before, {name, besides}, expiring, was_disturbed=plan is not None)
        self.met["objects kept for a hold"] += len(kept)
        gone = [key for key in kept if not Path(self.store.local_path(key) or "").is_file()]
        assert not gone, f"a hold covers {gone}, and they were deleted"

    def interrupted(self, host: Host, name: str, number: int, other: Host, besides: str) -> None:
        """Let `other` do `besides` at the call with this number."""
        plan = Interruption(number, lambda: self._quietly(other, besides))
        self.act(host, name, plan=plan, besides=besides)
        if plan.error is not None:
            raise plan.error

    def _quietly(self, host: Host, name: str) -> None:
        try:
            OPERATIONS[name](host.opened(), host)
        except ArchiverError:
            host.archive = None

    def _expiring(self, head: Snapshot) -> Counter[Row]:
        """Return the rows that an expiry at this moment takes away."""
        cutoff = KEEP.before(clock.from_us(self.now_us).date()).isoformat()
        return self.rows(
            [
                file
                for file in head.files.select()
                if file.partition.dt < cutoff and not any(hold.covers(file) for hold in head.holds.values())
            ]
        )

    def held_objects(self) -> list[str]:
        """Return what expired, was not deleted yet, and is covered by a hold now."""
        found, head = [], self.archive.ledger.refresh()
        for entry in head.files.entries():
            by = entry.removed_by
            if by is None or not any(hold.covers(entry.file) for hold in head.holds.values()):
                continue
            if (
                self.archive.ledger.read(by).content.operation == "expire"
                and Path(self.store.local_path(entry.file.key) or "").is_file()
            ):
                found.append(entry.file.key)
        return found

    def _judge(
        self, before: Counter[Row], names: set[str], expiring: Counter[Row], *, was_disturbed: bool
    ) -> None:
        after = self.live()
        lost, gained = before - after, after - before
        if not names & {"run", "requeue"}:
            assert not gained, f"{names} added {gained}"
        if "retain" not in names:
            assert not lost, f"{names} lost {lost}"
            return
        if "run" not in names and "requeue" not in names and "hold" not in names:
            assert lost == expiring if not was_disturbed else not lost - expiring, (lost, expiring)
        gone = {row[2] for row in lost if row[0] == "events"}
        self.expired |= gone
        self.absent |= gone - {row[2] for row in after if row[0] == "events"} - self.waiting()

    def lose_cache(self, prefix: str, number: int, how: str) -> None:
        """Delete a cache, or one object of it, or flip a bit in one."""
        keys = [info.key for info in self.store.list(prefix)]
        if not keys:
            return
        key = keys[number % len(keys)]
        if how == "flipped":
            content = bytearray(self.store.get(key))
            if content:
                content[number % len(content)] ^= 1 << number % 8
                self.store.put(key, bytes(content), mode="overwrite")
            return
        self.store.delete(keys if how == "all" else [key])

    # what must hold

    def look(self) -> None:
        """Check what must hold at any moment, and remember this one."""
        head = open_archive(self.store).ledger.snapshot
        rows = self.live()
        assert head.totals.adds_up(), head.totals
        assert head.sequence == self.archive.ledger.snapshot.sequence
        assert len(head.files.select()) == len(head.files)
        ids = Counter(row[2] for row in rows.elements() if row[0] == "events")
        assert not ids or max(ids.values()) == 1, ids
        assert not self.absent & ids.keys(), self.absent & ids.keys()
        self.protected = {
            name: self.protected.get(name, set()) | {row for row in rows if _covers(hold, row)}
            for name, hold in head.holds.items()
        }
        for name, covered in self.protected.items():
            assert covered <= rows.keys(), f"hold {name}: {covered - rows.keys()} went"
        self.remembered[head.sequence] = rows

    def look_back(self, sequence: int) -> None:
        """Ask for a snapshot that was seen before."""
        if sequence < open_archive(self.store).ledger.snapshot.oldest_readable:
            self.met["as of: refused"] += 1
            with pytest.raises(ConfigError, match="no longer readable"):
                open_archive(self.store, as_of=AsOf(sequence))
            return
        self.met["as of"] += 1
        pinned = open_archive(self.store, as_of=AsOf(sequence))
        assert pinned.ledger.refresh().sequence == sequence
        assert self.rows(pinned.ledger.snapshot.files.select()) == self.remembered[sequence]

    def late_writes_arrive(self) -> None:
        before = self.live()
        for plan in self.plans:
            plan.release()
        self.plans.clear()
        assert self.live() == before

    def events_that_must_be_there(self) -> set[str]:
        wanted = {
            f"e{number}" for number in range(IDS) for kind in _MEMBERS if self.delivered[body(number, kind)]
        }
        return wanted - self.expired

    def close(self) -> None:
        """Note what came of it all, and let the clock go."""
        self.met["sequences"] += 1
        self.met.update(commit.content.operation for commit in self.archive.ledger.since(-1))
        self.met["identities that expired"] += len(self.expired)
        self.patch.undo()


KEEP: Final[Span] = parse_span("45d")


def _rows_of(store: Store, file: DataFile) -> Counter[Row]:
    where = file.partition
    identity = IDENTITY_COLUMN[where.dataset]
    content = store.get(file.key)
    assert digest_of(content) == file.digest, file.key
    table = decode(content, file.key, where.dataset, [identity, "event_time", "body"])
    times = table["event_time"].cast("int64").to_pylist()
    ids, bodies = table[identity].to_pylist(), table["body"].to_pylist()
    rows = zip(ids, times, bodies, strict=True)
    return Counter((where.dataset, where.workspace, one, at, text) for one, at, text in rows)


def _covers(hold: Hold, row: Row) -> bool:
    return (
        hold.workspace in (None, row[1])
        and (hold.since_us is None or row[3] >= hold.since_us)
        and (hold.until_us is None or row[3] < hold.until_us)
    )


def _run(archive: Archive, host: Host) -> None:
    run(archive, SpoolSource(host.spool, settle_seconds=0), rules=STRICT, workers=0)


def _collect(keep: timedelta) -> Operation:
    def let_go(archive: Archive, _: Host) -> None:
        collect(archive, grace=timedelta(0), keep_snapshots=keep, force=True)

    return let_go


def _hold(archive: Archive, _: Host) -> None:
    """Set the hold on the first day's `w0`, or release it if it is set."""
    if "case" in archive.ledger.refresh().holds:
        release_hold(archive, "case", reason="closed")
    else:
        until = STARTS_AT - 60 * DAY_US
        set_hold(archive, Hold("case", workspace="w0", until_us=until, reason="case"))


OPERATIONS: Final[dict[str, Operation]] = {
    "run": _run,
    "requeue": lambda archive, _: requeue(archive, lambda _: RELAXED, lambda _: True),
    "compact": lambda archive, _: compact(archive, Policy(min_files=2)),
    "retain": lambda archive, _: retain(archive, Retention(KEEP)),
    "hold": _hold,
    "collect": _collect(timedelta(0)),
    "collect old": _collect(timedelta(days=50)),
    "publish": lambda archive, _: publish(archive),
    "maintain": lambda archive, _: maintain.after_commits(archive),
    "checkpoint": lambda archive, _: archive.ledger.write_checkpoint(),
    "checkpoint anew": lambda archive, _: archive.ledger.write_checkpoint(rebuild=True),
    "index": lambda archive, _: archive.identities.update(),
    "index anew": lambda archive, _: archive.identities.update(anew=True),
}
