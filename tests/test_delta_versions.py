"""What each commit becomes in the Delta log, byte for byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from archiver import columns, layout
from archiver.delta.actions import WRITER_FEATURE, table_of, version_of
from archiver.delta.publish import publish
from archiver.errors import IntegrityError
from archiver.ledger.entry import Commit, Content, DataFile, Hold
from tests.support import archive_bodies, event, new_archive

ATTEMPT = "019d27a3b8c0" + "0" * 16
FILE = DataFile(
    key=layout.data_file("events", "a=b/c", date(2026, 3, 26), "b" * 32, ATTEMPT, 0, "parquet"),
    digest="sha256:" + "0" * 64,
    bytes=5_000,
    rows=7,
    min_us=1_774_520_100_123_456,
    max_us=1_774_520_100_123_456,
)
# Of an archive as below. If this changes, version 0 of every table that exists is no longer ours.
FIRST_VERSION = "41fc99b4c7279a1b1ffbe17921276b66a537b56a6234b18db25c37ae2aa66e2a"
ARCHIVE = {"id": "5b0c2a3e-0000-4000-8000-000000000000", "datasets": {"events": 1}}


def _commit(operation: Any, **content: Any) -> Commit:
    return Commit(
        sequence=7,
        previous="",
        committed_us=1_774_520_100_999_999,
        oldest_readable=0,
        content=Content(operation=operation, batch="b" * 32, attempt=ATTEMPT, **content),
        digest="sha256:" + "1" * 64,
    )


def _actions(content: bytes) -> list[tuple[str, dict[str, Any]]]:
    return [next(iter(json.loads(line).items())) for line in content.split(b"\n")[:-1]]


def _of(content: bytes, kind: str) -> list[dict[str, Any]]:
    return [body for name, body in _actions(content) if name == kind]


@pytest.mark.parametrize(
    ("operation", "is_change"), [("append", True), ("requeue", True), ("compact", False), ("expire", True)]
)
def test_only_a_compaction_rearranges_rows_without_changing_them(operation: str, is_change: bool) -> None:
    gone = FILE.key.replace("-0.parquet", "-1.parquet")
    content = version_of(_commit(operation, added=(FILE,), removed=(gone,)))
    assert [name for name, _ in _actions(content)] == ["commitInfo", "remove", "add"]
    (add,), (remove,) = _of(content, "add"), _of(content, "remove")
    assert (add["dataChange"], remove["dataChange"]) == (is_change, is_change)
    assert remove["path"] == layout.delta_path(gone)
    assert remove["deletionTimestamp"] == 1_774_520_100_999


def test_a_file_is_named_by_its_key_encoded_once_more_and_its_workspace_as_it_is() -> None:
    (add,) = _of(version_of(_commit("append", added=(FILE,))), "add")
    assert add["path"].startswith("workspace=a%253Db%252Fc/dt=2026-03-26/")
    assert add["partitionValues"] == {"workspace": "a=b/c", "dt": "2026-03-26"}
    assert (add["size"], add["modificationTime"]) == (5_000, int(ATTEMPT[:12], 16))


def test_statistics_hold_for_readers_that_count_in_milliseconds_and_for_those_that_do_not() -> None:
    (add,) = _of(version_of(_commit("append", added=(FILE,))), "add")
    assert json.loads(add["stats"]) == {
        "numRecords": 7,
        "nullCount": {"event_time": 0},
        "minValues": {"event_time": "2026-03-26T10:15:00.123Z"},
        "maxValues": {"event_time": "2026-03-26T10:15:00.124Z"},
    }


def test_the_last_millisecond_that_can_be_written_gets_no_upper_bound() -> None:
    for max_us, has_bound in ((253_402_300_799_999_000, True), (253_402_300_799_999_001, False)):
        file = replace(FILE, max_us=max_us)
        (add,) = _of(version_of(_commit("append", added=(file,))), "add")
        assert ("maxValues" in json.loads(add["stats"])) is has_bound


@pytest.mark.parametrize(
    "commit",
    [
        _commit("fence", fenced=("0" * 28,)),
        _commit("hold", hold=Hold("h")),
        _commit("append", added=(DataFile(FILE.key.replace("events/", "alerts/", 1), "", 1, 1, 0, 0),)),
        _commit("compact", removed=(FILE.key.replace("events/", "supplements/", 1),)),
    ],
    ids=["fence", "hold", "alerts", "supplements"],
)
def test_what_does_not_touch_events_is_a_version_that_only_says_where_it_comes_from(commit: Commit) -> None:
    ((name, said),) = _actions(version_of(commit))
    assert name == "commitInfo"
    assert said["operation"] == commit.content.operation
    assert said["operationParameters"] == {"commit": "7", "digest": commit.digest}
    assert said["timestamp"] == 1_774_520_100_999


def test_the_first_version_is_frozen_byte_for_byte() -> None:
    content = version_of(_commit("init", archive=ARCHIVE))
    assert hashlib.sha256(content).hexdigest() == FIRST_VERSION, content.decode()


def test_the_tables_columns_are_those_of_the_files_and_the_partition() -> None:
    (_, metadata) = table_of(ARCHIVE, 0)
    fields = json.loads(metadata["metaData"]["schemaString"])["fields"]
    kinds = {pa.string(): "string", pa.int64(): "long", columns.TIME: "timestamp"}
    assert [(one["name"], one["type"]) for one in fields] == [
        *((field.name, kinds[field.type]) for field in columns.SCHEMAS["events"]),
        ("workspace", "string"),
        ("dt", "string"),
    ]
    assert all(one["nullable"] for one in fields)


def test_columns_of_a_later_version_are_refused_not_guessed() -> None:
    with pytest.raises(IntegrityError, match="found 2"):
        version_of(_commit("init", archive={**ARCHIVE, "datasets": {"events": 2}}))


def test_every_line_is_ascii_whatever_a_workspace_is_called(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("e", workspace="\u2028ü\n😀"))
    publish(archive)
    content = archive.store.get(layout.delta_version(1))
    assert content.isascii()
    assert content.count(b"\n") == 2
    assert _of(content, "add")[0]["partitionValues"]["workspace"] == "\u2028ü\n😀"


def test_only_who_knows_our_feature_may_write_and_anybody_may_read() -> None:
    protocol = table_of(ARCHIVE, 0)[0]["protocol"]
    assert protocol == {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [WRITER_FEATURE]}
