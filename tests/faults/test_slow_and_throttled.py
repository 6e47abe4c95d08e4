"""Real runs against a real S3 server behind a stub that delays, throttles, resets and swallows replies."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archiver.config import Settings
from archiver.errors import StoreError
from archiver.runs import run_sources
from archiver.store.s3 import S3Store
from tests.conftest import S3Place
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.runs import Deliveries, finish, start_run
from tests.services import ceph
from tests.services.gateway import Gateway, _Passing

COMMIT = re.compile(r".*/_ledger/[0-9]{20}\.json")
Weather = Callable[[str, str], str]


class _Weathered(_Passing):
    """Tells the gateway which object a request is about."""

    server: WeatheredGateway

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        self.server.here.path = getattr(self, "path", "")
        return parsed


class WeatheredGateway(Gateway):
    """A gateway that asks `weather` (method, path) what each request shall meet, and counts it."""

    def __init__(self, upstream: str, weather: Weather) -> None:
        super().__init__(upstream)
        self.RequestHandlerClass = _Weathered
        self.weather = weather
        self.here = threading.local()
        self.met: Counter[str] = Counter()
        self._counting = threading.Lock()

    def take(self, method: str, headers: dict[str, str]) -> str:
        super().take(method, headers)
        fate = self.weather(method, self.here.path)
        with self._counting:
            self.met[fate] += 1
        if fate == "delayed":
            time.sleep(0.2)
            return "pass"
        return fate

    def __enter__(self) -> WeatheredGateway:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> S3Place:
    """A prefix on the real server; on moto where there is none."""
    real = os.environ.get("ARCHIVER_TEST_S3_ENDPOINT") or not ceph.missing_programs()
    found: S3Place = request.getfixturevalue("s3_bucket" if real else "moto_bucket")
    found.store().put("_probe/warm", b"")  # the first request of all is slow on some servers
    found.store().delete(["_probe/warm"])
    return found


def _archive_through(place: S3Place, tmp_path: Path, weather: Weather, *, runs: int = 2) -> Counter[str]:
    """Deliver and run some times in this weather; hold the archive against what was delivered."""
    deliveries = Deliveries(tmp_path / "spool", random.Random(7))
    with WeatheredGateway(place.server.endpoint, weather) as gateway:
        for _ in range(runs):
            deliveries.deliver(150)
            code, _, err = finish(
                start_run(deliveries.spool, place.location, "--endpoint-url", gateway.endpoint)
            )
            assert code in (0, 3), err
            assert spool_is_empty(deliveries.spool)
        met = gateway.met
    archive = check_archive(place.store(), events=deliveries.ids, rejected=deliveries.rejected)
    operations = [commit.content.operation for commit in archive.ledger.since(-1)]
    assert operations.count("append") == runs, operations
    return met


def test_a_server_that_throttles_delays_and_resets_costs_time_and_nothing_else(
    place: S3Place, tmp_path: Path
) -> None:
    draw = random.Random(3)
    kinds = ["503", "reset", "500", "delayed", "lost reply"]

    def weather(method: str, path: str) -> str:
        return draw.choice(kinds) if draw.random() < 0.2 else "pass"

    met = _archive_through(place, tmp_path, weather)
    assert len(met) >= 4, met


def test_commits_that_land_without_a_reply_are_found_and_made_once(place: S3Place, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def weather(method: str, path: str) -> str:
        if method != "PUT" or not COMMIT.fullmatch(path):
            return "pass"
        seen[path] += 1
        return "lost reply" if seen[path] == 1 else "pass"

    met = _archive_through(place, tmp_path, weather)
    assert met["lost reply"] == 3  # the first commit of all, and one a run
    assert max(seen.values()) == 1  # the slot was asked, and nothing put again


def test_commits_that_never_arrive_at_first_are_put_again(place: S3Place, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def weather(method: str, path: str) -> str:
        if method != "PUT" or not COMMIT.fullmatch(path):
            return "pass"
        seen[path] += 1
        return ["503", "reset", "pass"][min(seen[path], 3) - 1]

    met = _archive_through(place, tmp_path, weather, runs=1)
    assert (met["503"], met["reset"]) == (2, 2)


def test_a_server_that_only_throttles_ends_the_run_and_loses_nothing(place: S3Place, tmp_path: Path) -> None:
    deliveries = Deliveries(tmp_path / "spool", random.Random(7))
    deliveries.deliver(50)
    held = {path.name: path.read_bytes() for path in deliveries.spool.iterdir()}
    with WeatheredGateway(place.server.endpoint, lambda *_: "503") as gateway:
        store = S3Store(
            place.bucket, place.prefix, endpoint_url=gateway.endpoint, region="us-east-1", attempts=2
        )
        settings = Settings(spools=(str(deliveries.spool),), settle_seconds=0, workers=0)
        with pytest.raises(StoreError, match="503 SlowDown"):
            run_sources(store, settings)
    assert {path.name: path.read_bytes() for path in deliveries.spool.iterdir()} == held
