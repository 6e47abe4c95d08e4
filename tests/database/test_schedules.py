"""No row is lost, and none is read twice: random schedules on a real PostgreSQL."""

from __future__ import annotations

import pytest

from tests.database.tables import XID
from tests.database.playing import Playground, playground
from tests.services.postgres import PostgresDatabase

SCHEDULES = 200


@pytest.fixture(params=["xid8", "settled"])
def ground(request: pytest.FixtureRequest, postgres: PostgresDatabase):
    with playground(postgres, request.param) as one:
        yield one


def test_every_committed_row_is_read_once(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 0
    for seed in range(SCHEDULES):
        schedule = ground.play(seed, monkeypatch)
        schedule.check()
        rows += len(schedule.committed)
    assert rows > 5 * SCHEDULES  # they are not idle
