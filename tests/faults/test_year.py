"""A year as its operator lives it: a run a day, chores by the week and month, sometimes a crash."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from deltalake import DeltaTable

from archiver import clock
from archiver.archive import open_archive
from archiver.cli.main import cli
from archiver.errors import ArchiverError
from archiver.generate import Delivery, deliveries
from archiver.ledger import commit as protocol
from archiver.store import open as opening
from archiver.store.local import LocalStore
from tests.bench.days import same_workspaces
from tests.faults.faulty_store import Call, Fault, FaultPlan, FaultyStore
from tests.support import rows_of

FIRST_DAY: Final = date(2025, 1, 1)
LATEST_DAYS: Final = 9
_A_YEAR_SECONDS: Final = 300.0
MIN_FILES: Final = 4  # the least that compaction takes, by default


class Crash(BaseException):
    """The process ends here: nothing may catch it."""


class CrashPlan(FaultPlan):
    """Lets the process die at the call with this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def take(self, call: Call) -> Fault | None:
        fault = super().take(call)
        if len(self.calls) == self._number:
            raise Crash
        return fault


@dataclass(frozen=True, slots=True)
class Sent:
    """What was delivered first under an id."""

    dataset: str
    workspace: str
    day: date


@dataclass
class Operator:
    """Runs what cron would run, in the order of the calendar, and keeps the truth.

    Attributes:
        keep_days: How old a day may become.
        month: Days between the monthly chores; two of them meet a crash.
        sent: By id, everything that must be archived once.
        most_files: The most live files that any partition ever had.
    """

    place: Path
    keep_days: int
    month: int
    draw: random.Random
    sent: dict[str, Sent] = field(default_factory=dict)
    today: date = FIRST_DAY
    plans: list[FaultPlan] = field(default_factory=list)
    plan: FaultPlan | None = None
    yesterday: list[Delivery] = field(default_factory=list)
    kept_back: list[tuple[date, bytes]] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    most_files: int = 0

    def __post_init__(self) -> None:
        self.spool, self.location = self.place / "spool", str(self.place / "archive")
        self.spool.mkdir()

    # the clock and the store, as the commands see them

    def now_us(self) -> int:
        return clock.to_us(datetime.combine(self.today, datetime.min.time(), UTC)) + 23 * 3_600_000_000

    def store(self, *_: object) -> Any:
        inner = LocalStore(self.location)
        return inner if self.plan is None else FaultyStore(inner, self.plan)

    def command(self, *words: object, allowed: tuple[int, ...] = (0,)) -> Any:
        """Run a command to its end and return the document it printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            options = ["--archive", self.location, "--json"]
            code = cli.main([*map(str, words), *options], prog_name="archiver", standalone_mode=False)
        assert (code if isinstance(code, int) else 0) in allowed, out.getvalue()
        self.tally[str(words[0])] += 1
        return json.loads(out.getvalue())

    def spoiled(self, *words: object) -> None:
        """Run a command that dies, or that the store fails, at some call."""
        number = self.draw.randrange(1, 40)
        if self.draw.random() < 0.5:
            self.plan = CrashPlan(number)
        else:
            self.plan = FaultPlan()
            self.plan.at(number, self.draw.choice(("fails", "lands_without_reply", "lands_later")))
            self.plans.append(self.plan)
        try:
            self.command(*words, allowed=(0, 1, 3))
        except Crash:
            self.tally["crashes"] += 1
        except ArchiverError:
            self.tally["failures"] += 1
        finally:
            self.plan = None

    # the days

    def deliver(self) -> None:
        """Today's deliveries, less those that come late, besides some of yesterday's once more."""
        drawn = list(
            deliveries(
                events=30,
                newlines=False,
                seed=(self.today - FIRST_DAY).days,
                workspaces=4,
                days=1,
                until=self.today,
                duplicates=0.08,
                supplements=0.05,
                conflicts=0.02,
                alerts=0.05,
                invalid=0.03,
            )
        )
        for one in drawn:
            if one.kind in ("event", "alert") and one.id is not None:
                self.sent[one.id] = Sent(one.dataset or "", one.workspace_id or "", self.today)
        often = Counter(one.id for one in drawn)
        bodies = []
        for one in drawn:
            if one.kind == "event" and often[one.id] == 1 and self.draw.random() < 0.4:
                self.kept_back.append((self.today + timedelta(self.draw.randint(1, LATEST_DAYS)), one.body))
            else:
                bodies.append(one.body)
        bodies += [one.body for one in self.draw.sample(self.yesterday, min(4, len(self.yesterday)))]
        self.deliver_what_is_late()
        (self.spool / f"{self.today}.jsonl").write_bytes(b"\n".join(bodies) + b"\n")
        self.yesterday = [one for one in drawn if one.kind == "event"]

    def deliver_what_is_late(self, *, everything: bool = False) -> None:
        due = [body for when, body in self.kept_back if everything or when <= self.today]
        self.kept_back = [(when, body) for when, body in self.kept_back if body not in due]
        (self.spool / f"{self.today}-late.jsonl").write_bytes(b"\n".join(due) + b"\n")

    def live(self, day: int, crashes: set[int]) -> None:
        """One day: deliveries, a run, and the chores that are due."""
        self.today = FIRST_DAY + timedelta(day)
        due: list[tuple[object, ...]] = [("run", "--spool", self.spool, "--settle", 0, "--workers", 0)]
        if day % 7 == 6:
            due.append(("compact",))
        if day % self.month == self.month - 1:
            due.append(("retain", "--older-than", f"{self.keep_days}d"))
            # The grace goes by the store's clock, which is not ours.
            due.append(("collect", "--keep-snapshots", "7d", "--grace", "0s", "--force"))
            due.append(("publish", "delta"))
        self.deliver()
        unlucky = self.draw.randrange(len(due)) if day in crashes else -1
        for number, words in enumerate(due):
            if number == unlucky:
                self.spoiled(*words)
                break  # the machine is down for the rest of the day
            self.command(*words, allowed=(0, 3))
        else:
            for plan in self.plans:
                plan.release()
            self.plans.clear()
        files = Counter(file.partition for file in open_archive(self.store()).ledger.snapshot.files.select())
        self.most_files = max(self.most_files, *files.values(), 0)

    # what must hold

    def ids(self) -> Counter[tuple[str, str]]:
        archive = open_archive(LocalStore(self.location))
        return Counter(
            (dataset, row[name])
            for dataset, name in (("events", "id"), ("alerts", "alert_id"))
            for row in rows_of(archive, dataset)
        )

    def expected(self, *held: tuple[str, date, date]) -> Counter[tuple[str, str]]:
        """Return what must be live after an expiry of today: young days, and what a hold covers."""
        oldest = self.today - timedelta(self.keep_days)
        return Counter(
            (one.dataset, name)
            for name, one in self.sent.items()
            if one.day >= oldest
            or any(one.workspace == whose and since <= one.day < until for whose, since, until in held)
        )

    def check_delta(self) -> None:
        self.command("publish", "delta", "--dry-run")
        table = DeltaTable(f"{self.location}/events").to_pyarrow_table(columns=["id"])
        ours = rows_of(open_archive(LocalStore(self.location)))
        assert Counter(table["id"].to_pylist()) == Counter(row["id"] for row in ours)


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    quick = {**protocol.commit.__kwdefaults__, "pause": lambda _: None}  # type: ignore[dict-item]
    monkeypatch.setattr(protocol.commit, "__kwdefaults__", quick)
    with same_workspaces():
        yield monkeypatch


def _bound(sizes: list[int]) -> float:
    """Return how many files of one partition may be left when compaction has nothing more to do.

    Of files in the order of their sizes, from the fourth on each is larger than all before it
    together, or it would have become part of a larger one. So sizes double from there on.
    """
    return MIN_FILES - 1 + max(0.0, math.log2(sum(sizes) / sum(sorted(sizes)[: MIN_FILES - 1]))) + 1


def _live_through(operator: Operator, days: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clock, "now_us", operator.now_us)
    patch.setattr(opening, "open_store", operator.store)
    draw, keep, month = operator.draw, operator.keep_days, operator.month
    crashes = {
        start + number for start in range(1, days - month, month) for number in draw.sample(range(month), 2)
    } - {0}
    # One hold is set in time and released again, another one stays.
    span = timedelta(keep // 3)
    since = FIRST_DAY + timedelta(keep // 8)
    set_on, released_on = keep // 2, days * 7 // 8
    passing: tuple[str, date, date] | None = None
    lasting: tuple[str, date, date] | None = None
    was_held = 0
    for day in range(days):
        if day == set_on:
            names = Counter(one.workspace for one in operator.sent.values()).most_common(2)
            passing, lasting = ((name, since, since + span) for name, _ in names)
            for title, (whose, first, end) in (("passing", passing), ("lasting", lasting)):
                cover = ("--workspace", whose, "--since", first.isoformat(), "--until", end.isoformat())
                operator.command("hold", "set", title, *cover, "--reason", "case")
        if day == released_on and passing is not None and lasting is not None:
            held = operator.expected(passing, lasting)
            was_held = sum((held - operator.expected(lasting)).values())
            assert not held - operator.ids() - _not_yet(operator)
            operator.command("hold", "release", "passing", "--reason", "closed")
        operator.live(day, crashes)
        if day % month == month - 1 and day not in crashes:
            operator.check_delta()
    assert lasting is not None
    operator.today += timedelta(1)
    operator.deliver_what_is_late(everything=True)
    for words in (
        ("run", "--spool", operator.spool, "--settle", 0, "--workers", 0),
        ("run", "--spool", operator.spool, "--settle", 0, "--workers", 0),
        ("compact",),
        ("retain", "--older-than", f"{keep}d"),
        ("collect", "--keep-snapshots", "7d", "--grace", "0s", "--force"),
    ):
        operator.command(*words, allowed=(0, 3))
    found, expected = operator.ids(), operator.expected(lasting)
    assert found == expected, (expected - found, found - expected)
    assert expected != operator.expected(), "the hold covered nothing that had expired"
    assert was_held, "the other hold covered nothing that had expired"
    assert operator.command("verify")["damages"] == []
    operator.check_delta()
    archive = open_archive(LocalStore(operator.location))
    files = archive.ledger.snapshot.files.select()
    sizes: dict[object, list[int]] = {}
    for file in files:
        sizes.setdefault(file.partition, []).append(file.bytes)
    for where, each in sizes.items():
        assert len(each) <= _bound(each), (where, sorted(each))
    # Between two compactions a day's run adds one file to a partition, at most.
    assert operator.most_files <= max(map(_bound, sizes.values())) + 7
    print(
        f"\n{days} days: {len(operator.sent):,} events and alerts sent, {found.total():,} live in "
        f"{len(files):,} files of {len(sizes):,} partitions, at most {max(map(len, sizes.values()))} in one "
        f"now and {operator.most_files} ever; head {archive.ledger.snapshot.sequence}, "
        + ", ".join(f"{count} × {name}" for name, count in sorted(operator.tally.items()))
    )


def _not_yet(operator: Operator) -> Counter[tuple[str, str]]:
    """Return what was sent and may wait for the next run: a crash kept it in the spool, or it comes late."""
    young = operator.today - timedelta(LATEST_DAYS + 2)
    return Counter((one.dataset, name) for name, one in operator.sent.items() if one.day >= young)


def test_two_months_of_an_archive_with_chores_crashes_holds_and_expiry(
    tmp_path: Path, clockwork: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    _live_through(Operator(tmp_path, 31, 8, random.Random(seed)), 52, clockwork)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_year_of_an_archive_with_chores_crashes_holds_and_expiry(
    tmp_path: Path, clockwork: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 32)
    # A year takes some five minutes; where there is less time, the part of it that has every chore.
    days = 365 if float(os.environ.get("SOAK_SECONDS", "600")) >= _A_YEAR_SECONDS else 130
    print(f"seed {seed}, {days} days")
    _live_through(Operator(tmp_path, 90, 30, random.Random(seed)), days, clockwork)
