"""SIGKILL of the chores at random moments: compaction, expiry, collection, the views and the caches."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pytest
from deltalake import DeltaTable

from archiver.archive import open_archive
from archiver.store.local import LocalStore
from tests.faults.check import check_archive
from tests.faults.runs import LONGEST_RUN_SECONDS, Deliveries
from tests.support import rows_of

EVENTS_A_RUN: Final = 60
LAST_EXPIRED: Final = date(2026, 3, 10)  # the first of the three days of `Deliveries`


def _older_than() -> str:
    """Return the span by which the first of the days expires today, and no other."""
    return f"{(datetime.now(UTC).date() - LAST_EXPIRED).days - 1}d"


CHORES: Final = {
    "run": ("run",),
    "run --compact": ("run", "--compact"),
    "compact": ("compact", "--min-files", "2"),
    "retain": ("retain",),
    "collect": ("collect", "--keep-snapshots", "0s", "--grace", "0s", "--force"),
    "publish delta": ("publish", "delta"),
    "publish delta --rebuild": ("publish", "delta", "--rebuild"),
    "index rebuild": ("index", "rebuild"),
    "checkpoint": ("checkpoint", "--rebuild"),
}


def _words(chore: str, location: str, spool: Path) -> list[str]:
    words = [*CHORES[chore], "--archive", location]
    if chore.startswith("run"):
        words += ["--spool", str(spool), "--settle", "0"]
    if chore == "retain":
        words += ["--older-than", _older_than()]
    return words


def _archiver(*words: str, program: tuple[str, ...] = ("archiver",)) -> tuple[int, str]:
    """Run a command and return its exit code and what it said of errors."""
    done = subprocess.run(
        [sys.executable, "-m", *program, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_RUN_SECONDS,
        env={**os.environ, "NO_COLOR": "1"},
    )
    return done.returncode, done.stderr


def _done(chore: str, location: str, spool: Path) -> None:
    code, err = _archiver(*_words(chore, location, spool))
    assert code in (0, 3), (chore, err)


def _kill_chores(
    place: Path, draw: random.Random, chores: list[str], *, deadline: float = float("inf")
) -> Counter[str]:
    """Kill these chores one after another, and check after each; returns how many died, by chore."""
    location, deliveries = str(place / "archive"), Deliveries(place / "spool", draw)
    store, died, expiring = LocalStore(location), Counter[str](), set[str]()
    for _ in range(2):
        deliveries.deliver(EVENTS_A_RUN)
        _done("run", location, deliveries.spool)
    for chore in chores:
        if time.monotonic() > deadline:
            break
        deliveries.deliver(EVENTS_A_RUN)
        moment = (str(min(draw.randint(2, 30), draw.randint(2, 30))), str(draw.choice([0, 0, 1, 3, 10])))
        words = _words(chore, location, deliveries.spool)
        code, err = _archiver(*moment, *words, program=("tests.faults.killed",))
        assert code in (0, 3, -signal.SIGKILL), (chore, err)
        died[chore] += code == -signal.SIGKILL
        _done("run", location, deliveries.spool)
        if chore == "retain":
            expiring |= {one for one in deliveries.ids if int(one[1:]) % 3 == 0}
        check_archive(store, events=deliveries.ids, rejected=deliveries.rejected, expiring=expiring)
    for chore in ("retain", "run --compact", "publish delta"):
        _done(chore, location, deliveries.spool)
    left = {one for one in deliveries.ids if int(one[1:]) % 3}
    check_archive(store, events=left, rejected=deliveries.rejected)
    _done("publish delta", location, deliveries.spool)
    seen = DeltaTable(f"{location}/events").to_pyarrow_table(columns=["id"])["id"].to_pylist()
    assert Counter(seen) == Counter(row["id"] for row in rows_of(open_archive(store)))
    return died


def test_chores_killed_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    died = _kill_chores(tmp_path, draw, draw.sample(sorted(CHORES), 4))
    print(f"kills: {dict(died)}, seed {seed}")
    assert died.total() >= 1, died


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_kills_of_chores(tmp_path: Path) -> None:
    seconds, seed = float(os.environ.get("SOAK_SECONDS", "600")), random.randrange(1 << 32)
    deadline, died, rounds = time.monotonic() + seconds, Counter[str](), 0
    while time.monotonic() < deadline:
        draw = random.Random(seed + rounds)
        chores = draw.choices(sorted(CHORES), k=3 * len(CHORES))
        died += _kill_chores(tmp_path / str(rounds), draw, chores, deadline=deadline)
        rounds += 1
    print(f"soak: {died.total()} kills in {rounds} archives, seed {seed}: {dict(died)}")
