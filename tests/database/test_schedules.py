"""No row is lost, and none is read twice: random schedules on a real PostgreSQL."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.database.broken import OF_XID8
from tests.database.playing import Playground, playground
from tests.database.tables import archived
from tests.faults.check import check_archive
from tests.services.postgres import PostgresDatabase
from tests.support import ids_of, new_archive

SCHEDULES = 200


@pytest.fixture(params=["xid8", "settled"])
def ground(request: pytest.FixtureRequest, postgres: PostgresDatabase) -> Iterator[Playground]:
    with playground(postgres, request.param) as one:
        yield one


def test_every_committed_row_is_read_once(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 0
    for seed in range(SCHEDULES):
        schedule = ground.play(seed, monkeypatch)
        schedule.check()
        rows += len(schedule.committed)
    assert rows > 5 * SCHEDULES  # they are not idle


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_every_committed_row_is_read_once_for_long(
    ground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "60"))
    for seed in itertools.count(SCHEDULES):
        ground.play(seed, monkeypatch).check()
        if time.monotonic() > deadline:
            print(f"{seed - SCHEDULES + 1} schedules of {ground.strategy}")
            return


@pytest.mark.parametrize("rule", OF_XID8)
def test_rows_are_lost_with(rule: str, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    OF_XID8[rule](monkeypatch)
    with playground(postgres, "xid8") as ground:
        assert any(ground.play(seed, monkeypatch).lost() for seed in range(40))


def test_every_committed_row_is_archived_once(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same schedules, with a real archive: what dies in the middle is read again."""
    for seed in range(3):
        archive = new_archive(tmp_path / str(seed))
        ground.sessions[0].run("TRUNCATE events")
        schedule = ground.schedule(seed, monkeypatch)
        reads = partial(archived, archive, schedule.reader.source)
        monkeypatch.setattr(schedule, "read", reads)
        monkeypatch.setattr(schedule.reader, "run", reads)
        schedule.run()
        found = ids_of(archive)
        assert schedule.committed - schedule.deleted <= set(found) <= schedule.committed
        check_archive(archive.store, events=set(found))
