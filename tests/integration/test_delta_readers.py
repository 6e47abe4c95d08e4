"""The Delta log, read by others: delta-rs, polars and DataFusion must find the rows that we find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pytest
from deltalake.exceptions import DeltaError

from archiver import layout
from archiver.delta import checkpoint
from archiver.delta.publish import check, publish
from archiver.store.local import LocalStore
from tests.conftest import S3Place
from tests.integration.delta_history import WORKSPACES, comparable, expected, history, whole
from tests.support import archive_bodies, event


def _rows(table: deltalake.DeltaTable) -> list[tuple[Any, ...]]:
    return comparable(table.to_pyarrow_table().to_pylist())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with everything behind it, published commit by commit; only to be read."""
    place = tmp_path_factory.mktemp("delta") / "archive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "EVERY", 3)
        whole(LocalStore(place))
    return place


def test_delta_rs_finds_our_rows_after_every_commit(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    for archive in history(store):
        publish(archive)
        table = deltalake.DeltaTable(str(tmp_path / "archive/events"))
        assert table.version() == archive.ledger.snapshot.sequence
        assert _rows(table) == expected(store)


def test_polars_finds_our_rows(place: Path) -> None:
    rows = pl.scan_delta(str(place / "events")).collect().to_dicts()
    assert len(rows) > 30
    for row in rows:
        # polars takes this name for a null, whoever wrote the table; `workspace_id` is right.
        if row["workspace_id"] == "__HIVE_DEFAULT_PARTITION__":
            assert row["workspace"] is None
            row["workspace"] = row["workspace_id"]
    assert comparable(rows) == expected(LocalStore(place))


def test_every_older_version_is_the_snapshot_of_that_commit(place: Path) -> None:
    store = LocalStore(place)
    head = deltalake.DeltaTable(str(place / "events")).version()
    assert head >= 10
    for sequence in range(head + 1):
        table = deltalake.DeltaTable(str(place / "events"), version=sequence)
        assert _rows(table) == expected(store, sequence), sequence


def test_readers_start_from_the_newest_checkpoint(place: Path, tmp_path: Path) -> None:
    """With all versions before it gone, the rows can only come from the checkpoint."""
    log = sorted((place / "events/_delta_log").glob("*.checkpoint.parquet"))
    assert len(log) > 1
    newest = int(log[-1].name[:20])
    older = [path for path in (place / "events/_delta_log").glob("*.json") if int(path.stem) <= newest]
    kept = {path: path.read_bytes() for path in older}
    try:
        for path in older:
            path.unlink()
        assert _rows(deltalake.DeltaTable(str(place / "events"))) == expected(LocalStore(place))
        assert pl.scan_delta(str(place / "events")).collect().height == len(expected(LocalStore(place)))
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_a_workspace_is_found_by_its_name(place: Path, workspace: str) -> None:
    table = deltalake.DeltaTable(str(place / "events"))
    found = table.to_pyarrow_table(filters=[("workspace", "=", workspace)])
    wanted = [row for row in expected(LocalStore(place)) if workspace in row]
    assert found.num_rows == len(wanted) > 0
    assert set(found["workspace_id"].to_pylist()) == {workspace}


def test_statistics_skip_no_file_that_holds_a_row(place: Path) -> None:
    """Bounds within a millisecond of each row's time, from either side, by two engines."""
    table = deltalake.DeltaTable(str(place / "events"))
    times = sorted(set(table.to_pyarrow_table(columns=["event_time"])["event_time"].to_pylist()))
    frame, engine = pl.scan_delta(str(place / "events")), deltalake.QueryBuilder().register("events", table)
    all_times = table.to_pyarrow_table(columns=["event_time"])["event_time"].to_pylist()
    for time in times[:: max(1, len(times) // 8)]:
        wanted = sum(one >= time for one in all_times)
        assert frame.filter(pl.col("event_time") >= time).collect().height == wanted
        text = f"{time:%Y-%m-%dT%H:%M:%S.%fZ}"
        counted = engine.execute(f"SELECT count(*) AS n FROM events WHERE event_time >= '{text}'")
        assert counted.read_all()["n"].to_pylist() == [wanted]
        equal = sum(one == time for one in all_times)
        assert frame.filter(pl.col("event_time") == time).collect().height == equal
    edges = engine.execute("SELECT min(event_time) AS a, max(event_time) AS z FROM events").read_all()
    assert (edges["a"].to_pylist(), edges["z"].to_pylist()) == ([times[0]], [times[-1]])


def test_what_a_crash_left_unpublished_shows_the_state_before_and_then_heals(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    archive = whole(store)
    before, version = expected(store), archive.ledger.snapshot.sequence
    archive_bodies(archive, event("after the crash"))
    store.delete([layout.delta_version(version + 1)])
    assert _rows(deltalake.DeltaTable(str(tmp_path / "archive/events"))) == before
    publish(archive)
    assert _rows(deltalake.DeltaTable(str(tmp_path / "archive/events"))) == expected(store) != before


def test_a_table_that_is_published_at_the_end_is_that_which_grew(place: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    archive = whole(store, published=False)
    log = [info.key for info in store.list(layout.DELTA_LOG)]
    store.delete(log)
    publish(archive)
    assert _rows(deltalake.DeltaTable(str(tmp_path / "archive/events"))) == expected(store)
    check(archive).refuse()


def test_no_engine_can_write_to_the_table_by_mistake(place: Path) -> None:
    table = deltalake.DeltaTable(str(place / "events"))
    rows = table.to_pyarrow_table()
    log = sorted(path.name for path in (place / "events/_delta_log").iterdir())
    for write in (
        lambda: deltalake.write_deltalake(table, rows, mode="append"),
        table.delete,
        table.optimize.compact,
        lambda: table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True),
    ):
        with pytest.raises(DeltaError, match="archiverLedger"):
            write()
    assert sorted(path.name for path in (place / "events/_delta_log").iterdir()) == log


def test_a_table_on_a_real_s3_server_is_read_by_delta_rs_and_polars(s3_bucket: S3Place) -> None:
    store = s3_bucket.store()
    archive = whole(store)
    checkpoint.write(archive)
    server = s3_bucket.server
    options = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ALLOW_HTTP": "true",
    }
    wanted = expected(store)
    table = deltalake.DeltaTable(f"{s3_bucket.location}/events", storage_options=options)
    assert _rows(table) == wanted
    frame = pl.scan_delta(f"{s3_bucket.location}/events", storage_options=options).collect()
    assert sorted(frame["id"]) == sorted(row["id"] for row in table.to_pyarrow_table().to_pylist())
