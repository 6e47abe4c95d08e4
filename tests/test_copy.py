"""A copy is the archive again, whole and provable, or it is none; a restore drill among them."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from archiver import layout
from archiver.archive import open_archive
from archiver.cli.main import cli
from archiver.collect import collect
from archiver.compact import compact
from archiver.copy import copy
from archiver.errors import ArchiveNotFoundError, ConfigError, IntegrityError, StoreError
from archiver.export import export
from archiver.store.local import LocalStore
from archiver.store.open import open_store
from archiver.verify import verify
from tests.conftest import S3Place
from tests.support import archive_bodies, event, ids_of, new_archive


def _filled(place: Path, days: int = 3) -> LocalStore:
    store = LocalStore(place)
    archive = new_archive(store)
    for day in range(1, days + 1):
        bodies = [event(f"e{day}-{n}", timestamp=f"2026-03-{day:02}T10:00:00Z") for n in range(5)]
        archive_bodies(archive, *bodies, b'{"rubbish":1}')
    return store


def _objects(store: LocalStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list()}


def test_a_copy_is_verified_against_the_head_of_its_source(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    report = copy(source, backup)
    assert (report.commits, report.objects) == (4, 6)
    checked = verify(backup, expect=[(report.head, report.head_digest)])
    assert not checked.damages
    assert list(export(open_archive(backup))) == list(export(open_archive(source)))


def test_a_second_copy_brings_only_what_is_new(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    copy(source, backup)
    archive_bodies(open_archive(source), event("later"))
    report = copy(source, backup)
    assert (report.commits, report.objects) == (1, 1)
    assert copy(source, backup).commits == 0
    assert ids_of(open_archive(backup)) == ids_of(open_archive(source))


def test_a_copy_that_was_interrupted_is_no_archive_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    put, calls = LocalStore.put, iter(range(8))

    def failing(self: LocalStore, key: str, content: bytes, **options: object) -> None:
        if self is backup and next(calls, None) is None:
            raise StoreError("the disk is gone")
        put(self, key, content, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "put", failing)
        with pytest.raises(StoreError):
            copy(source, backup)
    assert any(layout.sequence_of(info.key) for info in backup.list(layout.LEDGER))
    with pytest.raises((ArchiveNotFoundError, IntegrityError)):
        open_archive(backup)
    report = copy(source, backup)
    assert report.present == 6
    assert not verify(backup, expect=[(report.head, report.head_digest)]).damages


def test_an_older_copy_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    copy(source, backup)
    for n in range(3):
        archive_bodies(open_archive(source), event(f"later-{n}"))
    put = LocalStore.put

    def failing(self: LocalStore, key: str, content: bytes, **options: object) -> None:
        if self is backup and layout.sequence_of(key) == 4:
            raise StoreError("the disk is gone")
        put(self, key, content, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "put", failing)
        with pytest.raises(StoreError):
            copy(source, backup)
    with pytest.raises(IntegrityError, match="missing, though later commits are there"):
        open_archive(backup)
    copy(source, backup)
    assert ids_of(open_archive(backup)) == ids_of(open_archive(source))


def test_an_interrupted_copy_is_never_taken_for_a_newer_head_than_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many commits are there already: the next one of the copy comes last."""
    source, backup = _filled(tmp_path / "a", days=1), LocalStore(tmp_path / "b")
    monkeypatch.setattr("archiver.copy._COMMITS_AT_ONCE", 5)
    copy(source, backup)
    for n in range(12):
        archive_bodies(open_archive(source), event(f"later-{n}"))
    put = LocalStore.put
    for fails in (2, 3, 7, 13):

        def failing(self: LocalStore, key: str, content: bytes, *, at: int = fails, **more: object) -> None:
            if self is backup and layout.sequence_of(key) == at:
                raise StoreError("the disk is gone")
            put(self, key, content, **more)  # type: ignore[arg-type]

        with monkeypatch.context() as broken:
            broken.setattr(LocalStore, "put", failing)
            with pytest.raises(StoreError):
                copy(source, backup)
        assert layout.commit(2) not in _objects(backup)
        assert {one.word for one in verify(backup).damages} == {"missing"}
        backup.delete(layout.commit(one) for one in range(2, 14))
    copy(source, backup)
    assert ids_of(open_archive(backup)) == ids_of(open_archive(source))


def test_an_altered_object_is_named_and_not_copied(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    key = min(open_archive(source).ledger.snapshot.files)
    path = Path(source.local_path(key) or "")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="expected sha256"):
        copy(source, backup)
    assert key not in _objects(backup)


def test_a_place_with_another_archive_is_refused_and_left_alone(tmp_path: Path) -> None:
    source, other = _filled(tmp_path / "a"), _filled(tmp_path / "b")
    before = _objects(other)
    with pytest.raises(ConfigError, match="is no copy"):
        copy(source, other)
    assert _objects(other) == before


def test_a_copy_that_was_written_to_is_refused(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    copy(source, backup)
    archive_bodies(open_archive(backup), event("written to the copy"))
    archive_bodies(open_archive(source), event("written to the source"))
    with pytest.raises(ConfigError, match="is no copy"):
        copy(source, backup)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    report = copy(source, backup, dry_run=True)
    assert report.objects == 6
    assert _objects(backup) == {}


def test_what_collect_takes_meanwhile_makes_a_later_head_the_copys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, backup = _filled(tmp_path / "a", days=1), LocalStore(tmp_path / "b")
    for n in range(5):
        archive_bodies(open_archive(source), event(f"more-{n}", timestamp="2026-03-01T10:00:00Z"))
    get, compacted = LocalStore.get, threading.Lock()

    def get_late(self: LocalStore, key: str, **options: int) -> bytes:
        if self is source and layout.partition_of(key) and compacted.acquire(blocking=False):
            other = open_archive(LocalStore(tmp_path / "a"))
            compact(other)
            collect(other, grace=timedelta(0), keep_snapshots=timedelta(0), force=True)
        return get(self, key, **options)

    monkeypatch.setattr(LocalStore, "get", get_late)
    monkeypatch.setattr("archiver.copy._THREADS", 1)
    report = copy(source, backup)
    assert report.head == 8
    assert not verify(backup, expect=[(report.head, report.head_digest)]).damages
    assert ids_of(open_archive(backup)) == ids_of(open_archive(source))


def test_a_quarantine_file_that_is_missing_in_the_source_is_named(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    key = next(info.key for info in source.list(layout.QUARANTINE))
    source.delete([key])
    with pytest.raises(IntegrityError, match=f"{key}: missing"):
        copy(source, backup)


@pytest.mark.parametrize("place", ["a", "a/backup", ".", "a/../a"])
def test_no_copy_is_made_of_an_archive_into_itself(tmp_path: Path, place: str) -> None:
    source = _filled(tmp_path / "a")
    before = _objects(source)
    with pytest.raises(ConfigError, match="one lies in the other"):
        copy(source, LocalStore(tmp_path / place))
    assert _objects(source) == before


def test_a_neighbour_whose_name_begins_like_the_archives_is_no_part_of_it(tmp_path: Path) -> None:
    copy(_filled(tmp_path / "a"), LocalStore(tmp_path / "a-copy"))
    assert not verify(LocalStore(tmp_path / "a-copy")).damages


def test_half_an_object_of_another_tool_is_named_with_what_to_do(tmp_path: Path) -> None:
    source, backup = _filled(tmp_path / "a"), LocalStore(tmp_path / "b")
    key = min(open_archive(source).ledger.snapshot.files)
    backup.put(key, b"half")
    with pytest.raises(ConfigError, match=key) as caught:
        copy(source, backup)
    assert "delete it and copy again" in caught.value.hint


def test_restore_drill(tmp_path: Path) -> None:
    """The way of docs/operations.md: back up, lose the archive, restore, prove it, go on."""
    run = CliRunner().invoke
    source = _filled(tmp_path / "live")
    exported = list(export(open_archive(source)))
    told = run(cli, ["copy", str(tmp_path / "backup"), "-a", str(tmp_path / "live"), "--json"])
    assert told.exit_code == 0, told.output
    report = json.loads(told.output)
    expect = f"{report['head']}:{report['head_digest']}"
    (tmp_path / "live").rename(tmp_path / "lost")
    back = run(cli, ["copy", str(tmp_path / "restored"), "-a", str(tmp_path / "backup")])
    assert back.exit_code == 0, back.output
    proof = run(cli, ["verify", "-a", str(tmp_path / "restored"), "--expect", expect])
    assert proof.exit_code == 0, proof.output
    restored = open_archive(LocalStore(tmp_path / "restored"))
    assert list(export(restored)) == exported
    archive_bodies(restored, event("e1-0", timestamp="2026-03-01T10:00:00Z"), event("new"))
    assert ids_of(restored).count("e1-0") == 1
    assert "new" in ids_of(restored)
    collect(restored)
    assert not verify(restored.store).damages


@pytest.mark.s3
def test_from_bucket_to_bucket_and_not_into_itself(s3_bucket: S3Place) -> None:
    source, backup, inside = (
        open_store(f"{s3_bucket.location}/{name}", s3_bucket.options) for name in ("a", "b", "a/b")
    )
    archive_bodies(new_archive(source), event("a"), b"rubbish")
    with pytest.raises(ConfigError, match="one lies in the other"):
        copy(source, inside)
    report = copy(source, backup)
    assert (report.commits, report.objects) == (2, 2)
    assert not verify(backup, expect=[(report.head, report.head_digest)]).damages
    assert copy(source, backup).objects == 0
