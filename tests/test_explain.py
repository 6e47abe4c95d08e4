"""Where an event came from: every place that has its id."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.explain import explain
from tests.support import archive_bodies, event, new_archive


def test_twins_supplements_and_conflicts_are_told_with_their_commits(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("x"), event("a"))
    archive_bodies(archive, event("a", ip_country="DE"))
    archive_bodies(archive, event("a", action="other"))
    archive_bodies(archive, event("a", workspace="ws_2"))
    places = explain(archive, "a")
    assert sorted((place.what, place.commit, place.workspace) for place in places) == [
        ("archived", 1, "ws_1"),
        ("archived", 4, "ws_2"),
        ("quarantined", 3, "ws_1"),
        ("supplement", 2, "ws_1"),
    ]
    first = next(place for place in places if place.commit == 1)
    assert (first.input, first.ordinal, first.body) == ("memory", 1, event("a").decode())
    assert archive.ledger.snapshot.files[first.object].rows == 2
    conflict = next(place for place in places if place.what == "quarantined")
    assert (conflict.reason, conflict.object) == ("conflict", "3:0")
    assert "action" in str(conflict.detail)
    assert [place.commit for place in explain(archive, "a", workspace="ws_2")] == [4]
    assert explain(archive, "nobody") == []


@pytest.mark.parametrize("data_format", ["jsonl.gz", "jsonl.zst"])
def test_what_json_lines_do_not_keep_is_not_invented(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    archive_bodies(archive, event("x"), event("a"))
    (place,) = explain(archive, "a")
    assert (place.input, place.ordinal, place.received_at) == (None, None, None)
    assert (place.source, place.commit, place.row) == ("spool", 1, 1)
