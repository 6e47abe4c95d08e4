"""New, duplicate, supplement or conflict: across batches, partitions, chunks and formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.archive import Archive
from archiver.requeue import entries
from tests.support import alert, archive_bodies, event, ids_of, new_archive, rows_of

LATER = "2026-04-10T00:00:00.000000Z"  # another partition, within 31 days
MUCH_LATER = "2026-05-20T00:00:00.000000Z"  # beyond them


@pytest.fixture(params=["parquet", "jsonl.gz", "jsonl.zst"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a", format=request.param)


def _counts(archive: Archive, *bodies: bytes, **options: object) -> dict[str, int]:
    counts = archive_bodies(archive, *bodies, **options).counts
    assert counts.adds_up()
    return {name: count for name, count in counts.to_json().items() if count and name != "read"}


def test_the_same_bytes_again_are_a_duplicate(archive: Archive) -> None:
    assert _counts(archive, event("a")) == {"archived": 1}
    assert _counts(archive, event("a")) == {"duplicates": 1}
    assert _counts(archive, event("b"), event("b"), event("b")) == {"archived": 1, "duplicates": 2}
    assert ids_of(archive) == ["a", "b"]


def test_a_redelivery_with_another_timestamp_in_another_partition_is_a_duplicate(archive: Archive) -> None:
    assert _counts(archive, event("a")) == {"archived": 1}
    assert _counts(archive, event("a", timestamp=LATER)) == {"duplicates": 1}
    assert ids_of(archive) == ["a"]


def test_beyond_the_window_the_same_id_is_another_event(archive: Archive) -> None:
    assert _counts(archive, event("a")) == {"archived": 1}
    assert _counts(archive, event("a", timestamp=MUCH_LATER)) == {"archived": 1}
    assert ids_of(archive) == ["a", "a"]
    assert _counts(archive, event("a", timestamp=MUCH_LATER)) == {"duplicates": 1}


@pytest.mark.parametrize(
    ("days", "verdict"),
    [("2026-04-26T10:15:00.000000Z", "duplicates"), ("2026-04-26T10:15:00.000001Z", "archived")],
)
def test_the_window_ends_after_31_days_to_the_microsecond(archive: Archive, days: str, verdict: str) -> None:
    _counts(archive, event("a"))
    assert _counts(archive, event("a", timestamp=days)) == {verdict: 1}


def test_one_id_in_two_workspaces_is_two_events(archive: Archive) -> None:
    assert _counts(archive, event("a"), event("a", workspace="ws_2")) == {"archived": 2}
    assert _counts(archive, event("a", workspace="ws_2")) == {"duplicates": 1}


def test_an_alert_and_an_event_of_one_id_are_two(archive: Archive) -> None:
    assert _counts(archive, event("a"), alert("a")) == {"archived": 2}
    assert _counts(archive, alert("a"), event("a")) == {"duplicates": 2}


def test_what_knows_more_is_a_supplement_and_then_known(archive: Archive) -> None:
    assert _counts(archive, event("a")) == {"archived": 1}
    assert _counts(archive, event("a", ip_country="DE")) == {"supplements": 1}
    assert _counts(archive, event("a", ip_country="DE")) == {"duplicates": 1}
    assert _counts(archive, event("a")) == {"duplicates": 1}
    assert ids_of(archive, "supplements") == ["a"]


def test_an_alert_may_be_supplemented(archive: Archive) -> None:
    assert _counts(archive, alert("a")) == {"archived": 1}
    assert _counts(archive, alert("a", reason="new country")) == {"supplements": 1}
    assert _counts(archive, alert("a", reason="new country"), event("a")) == {"duplicates": 1, "archived": 1}
    assert [row["dataset"] for row in rows_of(archive, "supplements")] == ["alerts"]


def test_a_contradiction_is_a_conflict_and_keeps_its_bytes(archive: Archive) -> None:
    _counts(archive, event("a", ip_country="DE"))
    body = event("a", ip_country="FR")
    report = archive_bodies(archive, body)
    assert report.reasons == {"conflict": 1}
    (entry,) = entries(archive)
    assert entry.rejection.body == body
    assert "ip_country" in entry.rejection.detail
    assert entry.rejection.event_id == "a"


def test_a_supplement_that_contradicts_another_is_a_conflict(archive: Archive) -> None:
    _counts(archive, event("a"))
    assert _counts(archive, event("a", ip_country="DE")) == {"supplements": 1}
    assert _counts(archive, event("a", ip_country="FR")) == {"quarantined": 1}
    assert _counts(archive, event("a", ip_city="Berlin")) == {"supplements": 1}
    assert _counts(archive, event("a", ip_city="Berlin", ip_country="DE")) == {"duplicates": 1}


def test_within_one_batch_the_order_of_reading_decides(archive: Archive) -> None:
    counts = _counts(
        archive,
        event("a"),
        event("a", ip_country="DE"),
        event("a", ip_country="FR"),
        event("a", ip_country="DE"),
    )
    assert counts == {"archived": 1, "supplements": 1, "quarantined": 1, "duplicates": 1}


def test_chunks_of_one_batch_know_each_other(archive: Archive) -> None:
    bodies = [event(f"e{number % 40}") for number in range(100)]
    report = archive_bodies(archive, *bodies, chunk_bytes=1)
    assert report.counts.archived == 40
    assert report.counts.duplicates == 60
    assert len(set(ids_of(archive))) == 40


def test_a_second_process_finds_what_the_first_one_wrote(tmp_path: Path) -> None:
    from archiver.archive import open_archive  # noqa: PLC0415

    first = new_archive(tmp_path / "a")
    _counts(first, *(event(f"e{number}") for number in range(50)))
    second = open_archive(first.store)
    assert _counts(second, *(event(f"e{number}") for number in range(60))) == {
        "archived": 10,
        "duplicates": 50,
    }


def test_ids_beyond_the_budget_are_read_again_and_still_found(tmp_path: Path) -> None:
    from archiver.index.known import KnownIds  # noqa: PLC0415

    archive = new_archive(tmp_path / "a")
    archive.identities._known = KnownIds(archive.ledger, budget_ids=15)
    for start in range(0, 100, 10):
        bodies = [event(f"e{number}", workspace=f"w{number % 3}") for number in range(start, start + 10)]
        assert _counts(archive, *bodies) == {"archived": 10}
    again = [event(f"e{number}", workspace=f"w{number % 3}") for number in range(100)]
    assert _counts(archive, *again) == {"duplicates": 100}


def test_ids_whose_hashes_collide_stay_two_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np  # noqa: PLC0415

    same = lambda ids, _: np.zeros(len(ids), dtype=np.uint64)  # noqa: E731
    monkeypatch.setattr("archiver.index.hashing.hash_ids", same)
    archive = new_archive(tmp_path / "a")
    assert _counts(archive, event("a"), event("b")) == {"archived": 2}
    assert _counts(archive, event("b"), event("c")) == {"duplicates": 1, "archived": 1}
    assert ids_of(archive) == ["a", "b", "c"]


def test_two_writers_with_one_identity_archive_it_once(tmp_path: Path) -> None:
    """The second writer has identified before the first one committed."""
    from archiver.archive import open_archive  # noqa: PLC0415
    from archiver.ledger import commit as protocol  # noqa: PLC0415

    first = new_archive(tmp_path / "a")
    second = open_archive(first.store)
    original = protocol.commit
    raced = []

    def commit(ledger, content, **rest):  # type: ignore[no-untyped-def]
        if ledger is second.ledger and not raced:
            raced.append(True)
            archive_bodies(first, event("x"), event("y"))
        return original(ledger, content, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "commit", commit)
        counts = _counts(second, event("x"), event("z"))
    assert counts == {"archived": 1, "duplicates": 1}
    assert ids_of(first) == ["x", "y", "z"]


def _at(day: str) -> str:
    return f"2026-{day}T00:00:00.000000Z"


def test_a_supplement_far_from_the_row_but_near_its_base_is_known(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    assert _counts(archive, event("x", timestamp=_at("03-01"))) == {"archived": 1}
    assert _counts(archive, event("x", timestamp=_at("01-30"), session_id="one")) == {"supplements": 1}
    assert _counts(archive, event("x", timestamp=_at("04-01"), session_id="two")) == {"quarantined": 1}


def test_a_supplement_adds_to_its_own_base_and_to_no_other(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    assert _counts(archive, event("x", timestamp=_at("01-01"), action="first")) == {"archived": 1}
    assert _counts(archive, event("x", timestamp=_at("02-10"), action="second")) == {"archived": 1}
    more = event("x", timestamp=_at("01-15"), action="first", session_id="s1")
    assert _counts(archive, more) == {"supplements": 1}
    later = event("x", timestamp=_at("02-10"), action="second", session_id="s2")
    assert _counts(archive, later) == {"supplements": 1}
    bases = {row["session_id"]: row["base_event_time"] for row in rows_of(archive, "supplements")}
    assert {session: str(when)[:10] for session, when in bases.items()} == {
        "s1": "2026-01-01",
        "s2": "2026-02-10",
    }
    from archiver.query.session import open_session  # noqa: PLC0415

    with open_session(archive).sql("SELECT action, session_id FROM events ORDER BY 1") as answer:
        assert answer.arrow().to_pylist() == [
            {"action": "first", "session_id": "s1"},
            {"action": "second", "session_id": "s2"},
        ]


def test_many_supplements_of_one_event_are_decided_in_linear_time(tmp_path: Path) -> None:
    """Each tree is built once; a thousand rows of one id took seconds when it was built for each."""
    from archiver import compare, identity  # noqa: PLC0415

    archive = new_archive(tmp_path / "a")
    built = []
    original = compare.canonical_tree
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity.compare, "canonical_tree", lambda *a: built.append(1) or original(*a))
        bodies = [event("x"), *(event("x", **{f"m{number}": number}) for number in range(100))]
        assert _counts(archive, *bodies) == {"archived": 1, "supplements": 100}
    assert len(built) < 250
