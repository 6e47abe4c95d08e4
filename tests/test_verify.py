"""Every kind of damage, done to an intact archive, is named: its word and its object."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from archiver import layout
from archiver.archive import init_archive, open_archive
from archiver.cli.verify import verify_command
from archiver.datafile import Encoding
from archiver.errors import ArchiveNotFoundError, StoreError
from archiver.generate import deliveries
from archiver.ledger.entry import Counts, DataFile
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.verify import MEANINGS, VerifyReport, verify
from archiver.verify.content import IDENTITY
from archiver.verify.identities import Workspace
from archiver.verify.report import WORDS, Findings
from tests.verifying import Chained, built, check, deliver, flip, found, ledger, root

__all__ = ["built", "ledger", "root"]  # fixtures: pytest finds them here by name

# --- nothing wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
def test_an_intact_archive_has_no_damage_and_its_numbers_are_told(root: Path, quick: bool) -> None:
    report = check(root, quick=quick)
    assert report.is_intact
    assert found(report) == set()
    assert report.notes == []
    totals = open_archive(LocalStore(root)).ledger.snapshot.totals
    assert totals.supplements > 0
    assert totals.quarantined > 0
    assert report.rows == totals.archived + totals.supplements
    assert report.commits == 4
    assert report.objects == sum(1 for path in root.rglob("*") if path.is_file()) - 4
    report.raise_if_damaged()


def test_verify_writes_nothing(root: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    check(root)
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


@pytest.mark.parametrize("form", ["jsonl.gz", "jsonl.zst"])
def test_an_intact_archive_of_json_lines_has_no_damage(tmp_path: Path, form: Any) -> None:
    archive = init_archive(LocalStore(tmp_path / "lines"), Encoding(form, 3), rounds=0)
    deliver(archive, deliveries(events=200, seed=3, workspaces=2, days=1, supplements=0.05))
    assert found(check(tmp_path / "lines")) == set()


def test_a_place_without_a_ledger_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFoundError):
        check(tmp_path / "nothing")


def test_caches_and_objects_of_interrupted_runs_are_notes_and_no_damage(root: Path, ledger: Chained) -> None:
    folder = (root / ledger.file().key).parent
    (folder / f"{'0' * 32}-{layout.new_attempt()}-0.parquet").write_bytes(b"left behind")
    for cache in ("_index/a", "_ledger/checkpoints/b", "events/_delta_log/0.json", "_probe/c"):
        (root / cache).parent.mkdir(parents=True, exist_ok=True)
        (root / cache).write_bytes(b"x")
    report = check(root)
    assert found(report) == set()
    assert any(note.startswith("waiting for collect: 1 object, 11 bytes") for note in report.notes)
    assert any("4 objects, 4 bytes of caches" in note for note in report.notes)


# --- objects -----------------------------------------------------------------------------------------


def data_of(ledger: Chained) -> str:
    return ledger.file().key


@pytest.mark.parametrize("which", [data_of, Chained.quarantine, Chained.list])
def test_a_flipped_byte_makes_an_object_altered(
    root: Path, ledger: Chained, which: Callable[[Chained], str]
) -> None:
    flip(root / which(ledger))
    assert found(check(root)) == {("altered", which(ledger))}


@pytest.mark.parametrize("which", [data_of, Chained.quarantine, Chained.list])
@pytest.mark.parametrize("quick", [False, True])
def test_an_absent_object_is_missing(
    root: Path, ledger: Chained, which: Callable[[Chained], str], quick: bool
) -> None:
    (root / which(ledger)).unlink()
    assert ("missing", which(ledger)) in found(check(root, quick=quick))
    assert {word for word, _ in found(check(root, quick=quick))} == {"missing"}


def test_a_truncated_file_is_altered_even_to_a_quick_check(root: Path, ledger: Chained) -> None:
    path = root / data_of(ledger)
    path.write_bytes(path.read_bytes()[:-1])
    assert found(check(root, quick=True)) == {("altered", data_of(ledger))}


def test_a_quick_check_reads_no_object(root: Path, ledger: Chained) -> None:
    flip(root / data_of(ledger))
    assert check(root, quick=True).is_intact


def test_two_files_with_their_contents_swapped_are_both_altered(root: Path, ledger: Chained) -> None:
    one, two = root / ledger.file(0).key, root / ledger.file(1).key
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert found(check(root)) == {("altered", ledger.file(0).key), ("altered", ledger.file(1).key)}


def test_a_foreign_object_is_named_with_its_control_characters_shown(root: Path) -> None:
    (root / "events" / "no\nte.txt").write_bytes(b"hello")
    (root / "_ledger" / "42.json").write_bytes(b"{}")
    report = check(root)
    assert found(report) == {("foreign", "events/no\nte.txt"), ("foreign", "_ledger/42.json")}
    assert "\n" not in "".join(str(damage) for damage in report.damages)
    assert any(damage["object"] == "events/no\\x0ate.txt" for damage in report.to_json()["damages"])


@pytest.mark.parametrize("which", [data_of, Chained.quarantine, Chained.list])
def test_an_object_under_a_committed_attempts_name_is_inserted(
    root: Path, ledger: Chained, which: Callable[[Chained], str]
) -> None:
    key = which(ledger)
    name = key.rpartition("/")[2]
    origin = layout.origin_of(key)
    assert origin is not None
    tail = name.removeprefix(f"{origin.batch}-{origin.attempt}-").replace("0", "77", 1).replace("1", "78")
    other = f"{key.rpartition('/')[0]}/{origin.batch}-{origin.attempt}-9{tail}"
    shutil.copy(root / key, root / other)
    assert found(check(root)) == {("inserted", other)}


def test_superseded_files_may_be_absent_only_below_the_oldest_readable_commit(
    root: Path, ledger: Chained
) -> None:
    gone = ledger.file().key
    ledger.append("expire", removed=[gone], oldest_readable=0)
    assert check(root).is_intact
    (root / gone).unlink()
    assert found(check(root)) == {("missing", gone)}
    ledger.change(4, lambda tree: tree.update(oldest_readable=4))
    assert check(root).is_intact


def test_an_object_that_the_store_does_not_give_is_not_called_damaged(root: Path, ledger: Chained) -> None:
    class Sick(LocalStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            if key == data_of(ledger):
                raise StoreError(f"{key}: the disk reports an error")
            return super().get(key, start=start, length=length)

    report = verify(Sick(root))
    assert not report.damages
    assert not report.is_intact
    assert data_of(ledger) in report.unreadable[0]
    with pytest.raises(StoreError):
        report.raise_if_damaged()


# --- identities -----------------------------------------------------------------------------------------


def test_an_id_archived_again_by_a_hand_made_commit_is_duplicated(root: Path, ledger: Chained) -> None:
    key = _archive_again(root, ledger, ledger.file())
    report = check(root)
    assert found(report) == {("duplicated", key)}
    assert ledger.file().key in report.damages[0].found


def _archive_again(root: Path, ledger: Chained, file: DataFile) -> str:
    batch, attempt, place = "ab" * 16, layout.new_attempt(), file.partition
    key = f"{file.key.rpartition('/')[0]}/{batch}-{attempt}-0.parquet"
    shutil.copy(root / file.key, root / key)
    assert place.dataset == "events"
    ledger.append(
        batch=batch,
        attempt=attempt,
        added=[replace(file, key=key).to_json()],
        counts=Counts(read=file.rows, archived=file.rows).to_json(),
    )
    return key


def test_repeats_beyond_the_window_are_a_note(root: Path, ledger: Chained) -> None:
    ledger.change(0, lambda tree: tree["archive"].update(identity_window_days=0))
    file = ledger.file()
    rows = ledger.rows(file).to_pylist()
    # The last row's id, again in the first row: hours apart, and the window is zero.
    rows[0]["body"], rows[0]["id"] = rows[0]["body"].replace(rows[0]["id"], rows[-1]["id"]), rows[-1]["id"]
    ledger.replace_file(file, pa.Table.from_pylist(rows, schema=ledger.rows(file).schema))
    report = check(root)
    assert {word for word, _ in found(report)} <= {"missing"}  # of supplements whose event is further away
    assert any(note.startswith("1 rows repeat an id") for note in report.notes)


def test_a_supplement_without_its_event_is_missing_it(root: Path, ledger: Chained) -> None:
    archive = open_archive(LocalStore(root))
    keys = {
        file.key for file in archive.ledger.snapshot.files.values() if file.partition.dataset == "supplements"
    }
    events = [
        file.key for file in archive.ledger.snapshot.files.values() if file.partition.dataset == "events"
    ]
    ledger.append("compact", removed=events)  # takes all events away and puts nothing in their place
    damages = found(check(root))
    assert {("missing", key) for key in keys} <= damages
    assert ("miscounted", layout.commit(4)) in damages


@pytest.mark.parametrize("most_rows", [1_000_000, 100])
def test_repeats_are_found_alike_in_memory_and_through_temporary_files(
    root: Path, ledger: Chained, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "archiver.verify.objects.Workspace",
        lambda findings, days: Workspace(findings, days, most_rows=most_rows),
    )
    key = _archive_again(root, ledger, ledger.file())
    report = check(root)
    assert {word for word, _ in found(report)} == {"duplicated"}
    counted = sum(int(one.found.partition(" ")[0]) for one in report.damages)
    assert counted == ledger.file().rows
    assert {one.object for one in report.damages} == {key}


def test_hashes_that_collide_are_no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "archiver.verify.identities.identity_hashes", lambda ids, _: np.zeros(len(ids), dtype=np.uint64)
    )
    report = VerifyReport()
    workspace = Workspace(Findings(report), 31)
    rows = np.zeros(2, IDENTITY)
    workspace.add(rows)
    content = Encoding().encode(
        pa.table({"id": ["a", "b"], "event_time": pa.array([0, 0], pa.timestamp("us", tz="UTC"))}), "events"
    )
    key = layout.data_file("events", "w", date(1970, 1, 1), "0" * 32, "1" * 28, 0, "parquet")
    workspace.check([DataFile(key, "", 0, 2, 0, 0)], [1], lambda _: content, all_read=True)
    assert report.damages == []


# --- all together -------------------------------------------------------------------------------------------


def test_several_damages_at_once_are_all_named(root: Path, ledger: Chained) -> None:
    flip(root / ledger.file(0).key)
    (root / ledger.file(1).key).unlink()
    (root / ledger.quarantine()).unlink()
    (root / "stranger").write_bytes(b"")
    inserted = ledger.file(0).key.replace("-0.parquet", "-4711.parquet")
    (root / inserted).write_bytes(b"")
    again = _archive_again(root, ledger, ledger.file(2))
    ledger.change(2, lambda tree: tree["counts"].update(read=1))
    report = check(root, expect=[(99, "sha256:" + "0" * 64), (3, "sha256:" + "0" * 64)])
    assert found(report) == {
        ("altered", ledger.file(0).key),
        ("missing", ledger.file(1).key),
        ("missing", ledger.quarantine()),
        ("foreign", "stranger"),
        ("inserted", inserted),
        ("duplicated", again),
        ("miscounted", layout.commit(2)),
        ("truncated", layout.commit(99)),
        ("forked", layout.commit(3)),
    }
    assert set(report.words) == set(WORDS) == set(MEANINGS)


def test_the_listing_is_bounded_and_the_count_is_not(root: Path) -> None:
    for number in range(1_050):
        (root / f"foreign-{number}").write_bytes(b"")
    report = check(root, quick=True)
    assert report.damage_count == 1_050
    assert len(report.damages) == 1_000


def test_the_command_exits_with_20_and_names_the_damage(root: Path, ledger: Chained) -> None:
    flip(root / ledger.file().key)
    done = CliRunner().invoke(verify_command, ["--archive", str(root)])
    assert done.exit_code == 20
    assert f"altered: {ledger.file().key}: expected sha256:" in done.stdout
    assert "DAMAGED   altered 1" in done.stdout


def test_the_command_prints_the_head_to_expect_next_time(root: Path, ledger: Chained) -> None:
    done = CliRunner().invoke(verify_command, ["--archive", str(root), "--quick"])
    assert done.exit_code == 0
    told = done.stdout.strip().rpartition("--expect ")[2]
    ledger.path(3).unlink()
    again = CliRunner().invoke(
        verify_command, ["--archive", str(root), "--quick", "--expect", told, "--json"]
    )
    assert again.exit_code == 20
    document = json.loads(again.stdout)
    assert document["message_type"] == "verify_report"
    assert document["words"] == {"truncated": 1}


def test_damage_is_found_alike_on_every_kind_of_store(store: Store) -> None:
    archive = init_archive(store, rounds=0)
    deliver(archive, deliveries(events=60, seed=5, workspaces=2, days=1, invalid=0.1))
    assert found(verify(store)) == set()
    altered, missing = sorted(archive.ledger.snapshot.files)[:2]
    content = bytearray(store.get(altered))
    content[100] ^= 1
    store.put(altered, bytes(content), mode="overwrite")
    store.delete([missing])
    store.put("stranger", b"")
    assert found(verify(store)) == {("altered", altered), ("missing", missing), ("foreign", "stranger")}
