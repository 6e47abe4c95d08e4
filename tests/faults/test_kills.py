"""SIGKILL of a real `archiver run` at random moments; then nothing is lost and nothing is there twice."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from archiver.store.local import LocalStore
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.runs import Deliveries, finish, kill_after, start_run, typical_seconds

EVENTS_A_RUN = 400


def _kill_again_and_again(location: str, spool: Path, kills: int, *, seed: int, deadline: float) -> int:
    """Deliver, run, kill; then run to the end. Returns how many runs died."""
    draw = random.Random(seed)
    deliveries = Deliveries(spool, draw)
    deliveries.deliver(EVENTS_A_RUN)
    typical = typical_seconds(spool, location)
    died = 0
    while died < kills and time.monotonic() < deadline:
        deliveries.deliver(EVENTS_A_RUN)
        # Half of a run is imports; a kill there proves little, so most come later.
        moment = typical * draw.uniform(0.35, 1.0)
        process = start_run(spool, location)
        beside = start_run(spool, location) if draw.random() < 0.2 else None
        died += kill_after(process, moment)
        if beside is not None:
            died += kill_after(beside, draw.uniform(0, typical / 4))
        if draw.random() < 0.1:
            code, _, err = finish(start_run(spool, location))
            assert code in (0, 3), err
    code, _, err = finish(start_run(spool, location))
    assert code in (0, 3), err
    code, out, err = finish(start_run(spool, location))
    assert code == 0, err
    assert "nothing new" in out
    _held(location, spool, deliveries)
    return died


def _held(location: str, spool: Path, deliveries: Deliveries) -> None:
    from archiver.store.open import open_store  # noqa: PLC0415
    from archiver.store.options import S3Options  # noqa: PLC0415

    endpoint = os.environ.get("ARCHIVER_ENDPOINT_URL")
    store = open_store(location, S3Options(endpoint_url=endpoint) if endpoint else None)
    check_archive(store, events=deliveries.ids, rejected=deliveries.rejected)
    assert spool_is_empty(spool)


def test_a_run_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    died = _kill_again_and_again(
        str(tmp_path / "archive"), tmp_path / "spool", 24, seed=seed, deadline=time.monotonic() + 180
    )
    print(f"{died} kills, seed {seed}")
    assert died >= 12


@pytest.mark.s3
def test_a_run_killed_at_any_moment_loses_nothing_on_s3(
    s3_bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ARCHIVER_ENDPOINT_URL", s3_bucket.server.endpoint)
    seed = random.randrange(1 << 32)
    died = _kill_again_and_again(
        s3_bucket.location, tmp_path / "spool", 7, seed=seed, deadline=time.monotonic() + 60
    )
    print(f"{died} kills, seed {seed}")
    assert died >= 3


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_kills(tmp_path: Path) -> None:
    kills, seconds = int(os.environ.get("SOAK_KILLS", "500")), float(os.environ.get("SOAK_SECONDS", "600"))
    seed, deadline, died, rounds = random.randrange(1 << 32), time.monotonic() + seconds, 0, 0
    while died < kills and time.monotonic() < deadline:
        place = tmp_path / str(rounds)
        died += _kill_again_and_again(
            str(place / "archive"), place / "spool", 25, seed=seed + rounds, deadline=deadline
        )
        rounds += 1
    print(f"soak: {died} of {kills} kills in {rounds} archives, seed {seed}")


@pytest.mark.parametrize("writers", [2, 4])
def test_concurrent_runs_archive_every_event_once(tmp_path: Path, writers: int) -> None:
    """Some share a spool, others share only the archive; all see the same events."""
    location = str(tmp_path / "archive")
    draw = random.Random(writers)
    spools = [Deliveries(tmp_path / f"spool-{number % 2}", draw) for number in range(2)]
    for spool in spools:
        typical = spool.spool
        typical.mkdir(exist_ok=True)
    assert finish(start_run(spools[0].spool, location))[0] == 0  # creates the archive
    ids: set[str] = set()
    for spool in spools:
        for _ in range(6):
            spool.deliver(200)
        ids |= spool.ids
    runs = [start_run(spools[number % 2].spool, location) for number in range(writers)]
    for run in runs:
        code, _, err = finish(run)
        assert code in (0, 3), err
    for spool in spools:
        code, _, err = finish(start_run(spool.spool, location))
        assert code in (0, 3), err
        assert spool_is_empty(spool.spool)
    check_archive(LocalStore(tmp_path / "archive"), events=ids)
