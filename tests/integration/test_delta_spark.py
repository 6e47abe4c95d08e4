"""The Delta log, read by the reference implementation: Spark with its Delta reader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from archiver import clock
from archiver.archive import AsOf, open_archive
from archiver.delta import checkpoint
from archiver.store.local import LocalStore
from tests.integration.delta_history import comparable, expected, whole
from tests.support import ids_of

pytestmark = pytest.mark.spark
SPARK = Path(__file__).resolve().parents[2] / ".venv/spark"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, dict[str, Any]]:
    """An archive with everything behind it, and what one Spark session says of its table."""
    python, jars = SPARK / "bin/python", SPARK / "ivy/jars"
    if not (python.exists() and jars.is_dir() and shutil.which("java")):
        reason = "no Spark; run `.ci/install-services spark`"
        if os.environ.get("ARCHIVER_REQUIRE_SPARK") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("spark")
    store = LocalStore(folder / "archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "EVERY", 3)
        whole(store)
    reader = Path(__file__).with_name("spark_reader.py")
    done = subprocess.run(
        [python, reader, folder / "archive/events", jars, folder],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=folder,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python), "TZ": "UTC"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return store, json.loads(done.stdout)


def _in_us(store: LocalStore, sequence: int | None = None) -> list[tuple[Any, ...]]:
    return [
        tuple(clock.to_us(value) if hasattr(value, "tzinfo") else value for value in row)
        for row in expected(store, sequence)
    ]


def test_spark_finds_our_rows(found: tuple[LocalStore, dict[str, Any]]) -> None:
    store, told = found
    assert sorted(comparable(told["rows"]), key=repr) == sorted(_in_us(store), key=repr)


def test_spark_finds_our_older_snapshots(found: tuple[LocalStore, dict[str, Any]]) -> None:
    store, told = found
    for version, ids in told["ids_of_version"].items():
        then = open_archive(store, as_of=AsOf(sequence=int(version)))
        assert sorted(ids) == ids_of(then), version


def test_spark_finds_each_workspace_by_its_name(found: tuple[LocalStore, dict[str, Any]]) -> None:
    store, told = found
    assert told["of_workspace"] == {
        name: sum(name in row for row in expected(store)) for name in told["of_workspace"]
    }


def test_spark_skips_no_file_that_holds_a_row(found: tuple[LocalStore, dict[str, Any]]) -> None:
    _, told = found
    times = sorted(row["event_time"] for row in told["rows"])
    assert told["at_or_after_the_last"] == times.count(times[-1])
    assert told["at_or_before_the_first"] == times.count(times[0])
    assert told["after_the_last"] == 0


def test_sparks_history_of_the_table_is_the_ledger(found: tuple[LocalStore, dict[str, Any]]) -> None:
    store, told = found
    ledger = open_archive(store).ledger
    commits = [ledger.read(sequence) for sequence in range(ledger.snapshot.sequence, -1, -1)]
    assert told["history"] == [
        [one.sequence, one.content.operation, {"commit": str(one.sequence), "digest": one.digest}]
        for one in commits
    ]


def test_spark_refuses_to_write_to_the_table(found: tuple[LocalStore, dict[str, Any]]) -> None:
    _, told = found
    assert len(told["refusals"]) == 3
    for said in told["refusals"]:
        assert "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE" in said
