"""Which files a compaction chooses, and which it leaves alone."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import clock, layout
from archiver.archive import Archive
from archiver.compact import Policy, compact
from archiver.compact import merge as merging
from archiver.compact import plan as planning
from archiver.errors import ConfigError
from archiver.ledger.entry import DataFile
from archiver.ledger.files import Entry
from tests.compacting import archive, at, contents, fill
from tests.support import alert, archive_bodies, event, new_archive

__all__ = ["archive"]  # fixtures: pytest finds them here by name


def _entries(*sizes: int) -> list[Entry]:
    return [
        Entry(DataFile(f"events/workspace=w/dt=2026-03-26/{n:032x}-{n:028x}-0.parquet", "", size, 1, n, n), n)
        for n, size in enumerate(sizes)
    ]


def _sizes(entries: list[Entry]) -> list[int]:
    return [entry.file.bytes for entry in entries]


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((5, 5, 5), []),
        ((5, 5, 5, 5), [5, 5, 5, 5]),
        ((1, 1, 1, 100), []),
        ((1, 1, 1, 1, 100), [1, 1, 1, 1]),
        ((50, 50, 60, 100), [50, 50, 60, 100]),
        ((1, 3, 9, 27, 81), []),
        ((1, 3, 9, 26, 81), [1, 3, 9, 26]),
    ],
)
def test_a_file_is_rewritten_only_along_with_half_as_much_of_others(
    sizes: tuple[int, ...], chosen: list[int]
) -> None:
    assert _sizes(planning._worth_it(_entries(*sizes), 4)) == chosen


def test_files_stay_few_and_a_row_is_rewritten_seldom() -> None:
    """A year of small files, compacted after each: what is left, and what it cost, is bounded."""
    draw, sizes, written, arrived, most = random.Random(7), [], 0, 0, 0
    for _ in range(5_000):
        sizes.append(size := draw.randint(20_000, 200_000))
        arrived += size
        small = [one for one in sizes if one < 64 << 20]
        if chosen := _sizes(planning._worth_it(_entries(*small), 4)):
            written += sum(chosen)
            for one in chosen:
                sizes.remove(one)
            sizes.append(sum(chosen))
        most = max(most, len([one for one in sizes if one < 64 << 20]))
    assert most <= 16
    assert written <= 10 * arrived


def test_large_files_are_left_alone_and_groups_stay_below_the_target() -> None:
    mib = 1 << 20
    policy = Policy()
    entries = _entries(*(40 * mib for _ in range(10)))
    partition = layout.Partition("events", "w", "2026-03-26")
    groups = list(planning._groups(partition, entries, policy, 128 * mib))
    assert [len(group.files) for group in groups] == [3, 3, 3]
    assert all(group.bytes <= 128 * mib for group in groups)
    assert planning._small_bytes(policy, "parquet") == 64 * mib


def test_a_target_makes_a_file_large_enough(archive: Archive) -> None:
    fill(archive, 4, 2_000, note="x" * 40)
    sizes = [file.bytes for file in archive.ledger.snapshot.files.values()]
    policy = Policy(target_bytes=1 << 20)
    assert max(sizes) < 1 << 19
    assert compact(archive, policy).files_after == 1
    assert compact(archive, policy).files_before == 0


def test_fewer_than_min_files_are_left(archive: Archive) -> None:
    fill(archive, 3)
    assert compact(archive).commits == []
    assert compact(archive, Policy(min_files=2)).files_before == 3


def test_a_partition_that_was_just_added_to_may_wait(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(archive, 4)
    policy = Policy(min_age=timedelta(hours=1))
    assert compact(archive, policy).commits == []
    later = clock.now_us() + 3_700_000_000
    monkeypatch.setattr(clock, "now_us", lambda: later)
    archive_bodies(archive, event("elsewhere", workspace="ws_2"))
    assert compact(archive, policy).files_before == 4


def test_only_what_is_asked_for_is_compacted(archive: Archive) -> None:
    for number in range(4):
        for workspace in ("ws_1", "ws_2"):
            for day in (25, 26):
                body = event(f"{number}-{workspace}-{day}", workspace=workspace, timestamp=at(5, day))
                archive_bodies(archive, body, alert(f"{number}-{workspace}-{day}", workspace=workspace))
    midnight = clock.from_text("2026-03-26T00:00:00.000000Z")

    def chosen(**parts: Any) -> set[tuple[str, str, str]]:
        report = compact(archive, Policy(**parts), dry_run=True)
        return {(one["dataset"], one["workspace"], one["dt"]) for one in report.planned}

    assert len(chosen()) == 6
    assert {one[0] for one in chosen(datasets=("alerts",))} == {"alerts"}
    assert {one[1] for one in chosen(workspaces=("ws_2",))} == {"ws_2"}
    assert {one[2] for one in chosen(until_us=midnight, datasets=("events",))} == {"2026-03-25"}
    assert {one[2] for one in chosen(since_us=midnight, datasets=("events",))} == {"2026-03-26"}


@pytest.mark.parametrize(
    "policy",
    [
        Policy(min_files=1),
        Policy(target_bytes=5),
        Policy(target_bytes=(4 << 30) + 1),
        Policy(datasets=("nothing",)),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(archive: Archive, policy: Policy) -> None:
    with pytest.raises(ConfigError):
        compact(archive, policy)


def test_lines_that_are_too_large_in_memory_are_taken_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = new_archive(tmp_path / "a", format="jsonl.gz")
    fill(archive, 5)
    before = contents(archive)
    lines = len("\n".join(row["body"] for row in before))
    monkeypatch.setattr(merging, "MOST_LINES_BYTES", lines // 2)
    report = compact(archive)
    assert report.files_before >= 3
    assert len(archive.ledger.snapshot.files) > 1
    assert contents(archive) == before
    monkeypatch.setattr(merging, "MOST_LINES_BYTES", 10)
    fill(archive, 5, first=5)
    assert compact(archive).commits == []
