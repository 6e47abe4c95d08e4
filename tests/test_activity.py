"""When a stream was last heard of: the newest delivery counts, whoever noted it; no clock hides silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from archiver import clock
from archiver.activity import STREAMS, Activity, activities, newest, record
from archiver.errors import SourceError
from archiver.silence import hearings
from archiver.streams import Stream

SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOW = clock.from_text("2026-03-26T10:15:00.000000Z")


def only(spool: Path) -> Activity:
    (found,) = activities(spool)
    return found


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    wanted = Activity("production", NOW - HOUR, NOW - 5 * SECOND)
    record(tmp_path, wanted, now_us=NOW)
    assert activities(tmp_path) == [wanted]
    assert only(tmp_path).silent_seconds(NOW) == 5


def test_a_spool_that_no_receiver_has_seen_tells_of_no_stream(tmp_path: Path) -> None:
    assert activities(tmp_path) == []


def test_the_newest_delivery_stays_when_another_receiver_records_an_older_one(tmp_path: Path) -> None:
    record(tmp_path, Activity("eu", NOW - HOUR, NOW - 5 * SECOND), now_us=NOW)
    record(tmp_path, Activity("eu", NOW, NOW - 60 * SECOND), now_us=NOW)
    assert only(tmp_path).last_delivery_at == NOW - 5 * SECOND


def test_a_restart_forgets_no_delivery(tmp_path: Path) -> None:
    record(tmp_path, Activity("eu", NOW - HOUR, NOW - 5 * SECOND), now_us=NOW)
    record(tmp_path, Activity("eu", NOW, None), now_us=NOW)
    assert only(tmp_path) == Activity("eu", NOW, NOW - 5 * SECOND)


def test_restarts_do_not_shorten_the_silence_of_a_stream_that_was_never_heard(tmp_path: Path) -> None:
    record(tmp_path, Activity("eu", NOW - HOUR, None), now_us=NOW)
    record(tmp_path, Activity("eu", NOW, None), now_us=NOW)
    assert only(tmp_path).silent_seconds(NOW) == 3_600


def test_a_time_in_the_future_does_not_hide_later_deliveries(tmp_path: Path) -> None:
    record(tmp_path, Activity("eu", NOW, NOW + 24 * HOUR), now_us=NOW + 24 * HOUR)
    assert only(tmp_path).is_ahead(NOW)  # the clock was set back
    record(tmp_path, Activity("eu", NOW, NOW - SECOND), now_us=NOW)
    assert only(tmp_path).last_delivery_at == NOW - SECOND
    assert not only(tmp_path).is_ahead(NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"stream": "eu"}',
        b'{"stream": "eu", "listening_since": 5, "last_delivery_at": null}',
        b'{"stream": "eu", "listening_since": "2026-03-26T10:15:00.000000Z", "last_delivery_at": "soon"}',
        b'{"stream": "us", "listening_since": "2026-03-26T10:15:00.000000Z", "last_delivery_at": null}',
    ],
)
def test_a_damaged_or_forged_file_counts_as_not_there(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / STREAMS
    folder.mkdir()
    (folder / "eu.json").write_bytes(content)
    assert activities(tmp_path) == []
    record(tmp_path, Activity("eu", NOW, None), now_us=NOW)
    assert only(tmp_path).stream == "eu"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / STREAMS
    folder.mkdir()
    os.mkfifo(folder / "eu.json")
    (folder / "us.json").symlink_to("/dev/zero")
    assert activities(tmp_path) == []


def test_a_folder_that_is_none_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / STREAMS).write_text("")
    with pytest.raises(SourceError, match=STREAMS):
        activities(tmp_path)


def test_a_stream_that_moved_to_another_spool_keeps_its_newest_delivery(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    record(old, Activity("eu", NOW - HOUR, NOW - 60 * SECOND), now_us=NOW)
    record(new, Activity("eu", NOW, None), now_us=NOW)
    for order in ([old, new], [new, old]):
        assert newest(order)["eu"].last_delivery_at == NOW - 60 * SECOND


def test_the_file_is_whole_while_it_is_written_and_leaves_nothing_else(tmp_path: Path) -> None:
    for number in range(20):
        record(tmp_path, Activity("eu", NOW, NOW + number), now_us=NOW)
    assert [path.name for path in (tmp_path / STREAMS).iterdir()] == ["eu.json"]
    tree = json.loads((tmp_path / STREAMS / "eu.json").read_text())
    assert tree == {
        "stream": "eu",
        "listening_since": clock.to_text(NOW),
        "last_delivery_at": clock.to_text(NOW + 19),
    }


@pytest.mark.parametrize("name", [1, None, "a\nok    stream eu: all is well", "\udc80", "x\x1b[31m"])
def test_a_name_that_no_stream_can_have_counts_as_not_there(tmp_path: Path, name: object) -> None:
    record(tmp_path, Activity("eu", NOW, None), now_us=NOW)
    tree = json.loads((tmp_path / STREAMS / "eu.json").read_text())
    (tmp_path / STREAMS / f"{name}.json").write_text(json.dumps({**tree, "stream": name}))
    assert [one.stream for one in hearings({"us": Stream("/us")}, [tmp_path], NOW)] == ["us", "eu"]


def test_every_configured_stream_is_told_of_heard_or_not(tmp_path: Path) -> None:
    record(tmp_path, Activity("eu", NOW - HOUR, NOW - 61 * SECOND), now_us=NOW)
    record(tmp_path, Activity("old", NOW - HOUR, NOW - HOUR), now_us=NOW)
    streams = {
        "eu": Stream("/eu", silent_after_seconds=60),
        "us": Stream("/us", silent_after_seconds=60),
        "asia": Stream("/asia"),
    }
    found = {one.stream: one for one in hearings(streams, [tmp_path, tmp_path / "nowhere"], NOW)}
    assert list(found) == ["eu", "us", "asia", "old"]
    assert found["eu"].is_silent
    assert not hearings({"eu": Stream("/eu", silent_after_seconds=61)}, [tmp_path], NOW)[0].is_silent
    assert found["us"].silent_seconds is None
    assert not found["us"].is_silent
    assert not found["old"].is_configured
