"""Object Lock after commits: what is locked, until when, and what `retain` extends.

Most of it plays on a stub: a folder that remembers locks. One story runs on a real server.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import clock, layout, lock
from archiver.archive import Archive, init_archive, open_archive
from archiver.collect import collect
from archiver.config import Retention, read_settings
from archiver.doctor.examine import examine
from archiver.errors import ConfigError, PermissionDeniedError
from archiver.holds import release_hold, set_hold
from archiver.ledger.entry import Hold
from archiver.lock import LockReport
from archiver.pipeline import run
from archiver.requeue import requeue
from archiver.retain import retain
from archiver.spans import Span
from archiver.store.local import LocalStore
from archiver.store.open import open_store
from archiver.store.options import S3Options
from archiver.validate import Rules
from archiver.verify import verify
from tests.conftest import S3Place, S3Server
from tests.support import MemoryBatch, MemorySource, archive_bodies, event, ids_of, new_archive

CASE = "case 7, asked for by legal"
NOW = timedelta(0)


class LockingStore(LocalStore):
    """A stand-in for a bucket with Object Lock: remembers locks, does not enforce them."""

    def __init__(self, root: Path, keep: str | None = "400d") -> None:
        super().__init__(root)
        self.locks: dict[str, datetime] = {}
        self.asked = 0
        self.refuses = False
        self._keep = None if keep is None else Span(int(keep[:-1]), keep[-1])

    @property
    def lock_keep(self) -> Span | None:
        return self._keep

    def lock(self, keys: Iterable[str], until: datetime) -> int:
        if self.refuses:
            raise PermissionDeniedError("s3:PutObjectRetention refused", hint="grant it")
        short = [key for key in keys if key not in self.locks or self.locks[key] < until]
        self.locks.update(dict.fromkeys(short, until))
        return len(short)

    def locked_until(self, key: str) -> datetime | None:
        self.asked += 1
        self.info(key)
        return self.locks.get(key)


class Calendar:
    """The present day, to be moved on."""

    def __init__(self) -> None:
        self.today = date(2026, 1, 10)

    def now_us(self) -> int:
        return clock.to_us(datetime(self.today.year, self.today.month, self.today.day, 12, tzinfo=UTC))


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    calendar = Calendar()
    monkeypatch.setattr(clock, "now_us", calendar.now_us)
    return calendar


@pytest.fixture
def store(tmp_path: Path) -> LockingStore:
    return LockingStore(tmp_path / "a")


@pytest.fixture
def archive(store: LockingStore, calendar: Calendar) -> Archive:
    return new_archive(store)


def add(archive: Archive, event_id: str, day: date, **more: Any) -> Any:
    return archive_bodies(archive, event(event_id, timestamp=f"{day}T10:15:00Z", **more))


def ends(store: LockingStore) -> dict[str, date]:
    return {key: when.date() for key, when in store.locks.items()}


def test_all_that_a_commit_names_and_itself_is_locked_from_its_day_on(
    archive: Archive, store: LockingStore, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 0)
    archive_bodies(archive, event("a"), b"rubbish")
    (commit,) = archive.ledger.since(0)
    said = commit.content
    named = {one.key for part in (said.added, said.lists, said.quarantined) for one in part}
    assert len(named) == 3
    until = calendar.today + timedelta(400)
    assert ends(store) == dict.fromkeys(named | {layout.commit(1)}, until)


def test_without_a_setting_nothing_is_locked_and_nothing_is_asked(tmp_path: Path) -> None:
    store = LockingStore(tmp_path / "a", keep=None)
    archive = new_archive(store)
    add(archive, "a", date(2020, 1, 1))
    retain(archive, Retention(Span(400, "d")))
    assert store.locks == {}
    assert store.asked == 0


def test_requeues_expiries_and_holds_are_locked_too(archive: Archive, store: LockingStore) -> None:
    strict = Rules(source="spool", schemas={"events": '{"required":["no such member"]}'})
    bodies = [event("old", timestamp="2020-01-01T00:00:00Z"), event("a")]
    run(archive, MemorySource([MemoryBatch(bodies)]), rules=strict, workers=0)
    assert len(requeue(archive, lambda source: Rules(source=source), lambda _: True).commits) == 1
    set_hold(archive, Hold("h", "another", reason=CASE))
    release_hold(archive, "h", reason=CASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archiver.retain.extend_locks", lambda *_, **__: LockReport())
        assert len(retain(archive, Retention(Span(400, "d"))).commits) == 1
    commits = list(archive.ledger.since(0))
    operations = ["append", "requeue", "hold", "hold", "expire"]
    assert [one.content.operation for one in commits] == operations
    added = {file.key for one in commits for file in one.content.added}
    assert added | {layout.commit(one.sequence) for one in commits} <= store.locks.keys()


def test_a_lock_that_fails_is_a_problem_and_undoes_nothing(
    archive: Archive, store: LockingStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.refuses = True
    report = add(archive, "a", date(2026, 1, 9))
    assert ids_of(archive) == ["a"]
    assert report.problems == ["commit 1 stands, but is not locked: s3:PutObjectRetention refused"]
    assert "archiver retain" in caplog.text
    assert set_hold(archive, Hold("h", reason=CASE)).problems
    held = retain(archive, Retention(Span(400, "d"))).locks
    assert held.problems
    store.refuses = False
    repaired = retain(archive, Retention(Span(400, "d"))).locks
    assert repaired.problems == []
    assert {layout.commit(1), layout.commit(2)} <= store.locks.keys()
    assert archive.ledger.refresh().files.select()[0].key in store.locks
    assert retain(archive, Retention(Span(400, "d"))).locks.extended == 0


def test_what_outlives_its_lock_is_locked_again_before_it_lapses(
    archive: Archive, store: LockingStore, calendar: Calendar
) -> None:
    add(archive, "a", date(2026, 1, 9))
    (file,) = archive.ledger.snapshot.files.select()
    first = calendar.today + timedelta(400)
    made = calendar.today
    calendar.today = first - timedelta(31)
    retain(archive, Retention(Span(7, "y")))
    assert ends(store)[file.key] == first
    calendar.today = first - timedelta(30)
    retain(archive, Retention(Span(7, "y")))
    assert ends(store)[file.key] == first
    calendar.today = first - timedelta(29)
    retain(archive, Retention(Span(7, "y")))
    assert ends(store)[file.key] == ends(store)[layout.commit(1)] == made + timedelta(800)
    for _ in range(60):
        calendar.today += timedelta(30)
        retain(archive, Retention(Span(7, "y")))
        assert store.locks[file.key].date() >= calendar.today + timedelta(30)


def test_a_file_that_expires_first_is_not_locked_again_but_its_commit_is(
    archive: Archive, store: LockingStore, calendar: Calendar
) -> None:
    add(archive, "a", date(2026, 1, 9))
    (file,) = archive.ledger.snapshot.files.select()
    first = calendar.today + timedelta(400)
    calendar.today = first - timedelta(10)
    rules = Retention(Span(400, "d"))
    retain(archive, rules)
    assert ends(store)[file.key] == first
    assert ends(store)[layout.commit(1)] == first + timedelta(400)
    set_hold(archive, Hold("h", reason=CASE))
    retain(archive, rules)
    assert ends(store)[file.key] == first + timedelta(400)


def test_rules_for_a_part_do_not_let_the_locks_of_the_rest_lapse(
    archive: Archive, store: LockingStore, calendar: Calendar
) -> None:
    add(archive, "a", date(2026, 1, 9))
    (file,) = archive.ledger.snapshot.files.select()
    calendar.today += timedelta(390)
    retain(archive, Retention(Span(400, "d")), workspaces=["another"])
    assert ends(store)[file.key] > calendar.today + timedelta(30)


def test_rules_for_a_part_leave_the_rest_to_the_standing_rules(
    archive: Archive, store: LockingStore, calendar: Calendar
) -> None:
    """A lock is not taken back: what the configuration lets expire soon is not locked for 400 days more."""
    add(archive, "a", date(2026, 1, 9))
    (file,) = archive.ledger.snapshot.files.select()
    until = ends(store)[file.key]
    calendar.today += timedelta(390)
    once = Retention(Span(400, "d"), {}, {"ws_left": Span(60, "d")})
    retain(archive, once, workspaces=["ws_left"], standing=Retention(Span(400, "d")))
    assert ends(store)[file.key] == until
    retain(archive, once, workspaces=["ws_left"], standing=Retention(Span(500, "d")))
    assert ends(store)[file.key] > until


def test_few_objects_are_asked(archive: Archive, store: LockingStore, calendar: Calendar) -> None:
    """Of two hundred commits of as many days those whose locks end within 30 days, and the newest."""
    for number in range(60):
        calendar.today += timedelta(5)
        add(archive, f"e{number}", calendar.today)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "NEWEST_COMMITS", 5)
        calendar.today += timedelta(150)
        store.asked = 0
        report = retain(archive, Retention(None, {}, {"w": None}))
    # 12 days of either side of the end at 5 days a commit, two objects a commit.
    assert report.locks.asked == store.asked
    assert 0 < store.asked <= 2 * (13 + 5)


def test_an_archive_that_was_not_locked_before_can_be_locked_whole(
    archive: Archive, store: LockingStore, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        calendar.today += timedelta(60)
        add(archive, f"e{number}", calendar.today)
    store.locks.clear()
    monkeypatch.setattr(lock, "NEWEST_COMMITS", 1)
    rules = Retention(Span(7, "y"))
    retain(archive, rules)
    assert len(store.locks) == 2
    retain(archive, rules, every_lock=True)
    wanted = {file.key for file in archive.ledger.snapshot.files.select()}
    assert store.locks.keys() == wanted | {layout.commit(number) for number in range(5)}


def test_a_bucket_without_locks_is_one_problem(
    archive: Archive, store: LockingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        add(archive, f"e{number}", date(2026, 1, 9))
    store.locks.clear()

    def refuse(*_: object) -> int:
        raise ConfigError("the bucket has no Object Lock")

    monkeypatch.setattr(store, "lock", refuse)
    assert retain(archive, Retention(Span(400, "d"))).locks.problems == ["the bucket has no Object Lock"]


def test_doctor_finds_what_is_not_locked(archive: Archive, store: LockingStore) -> None:
    store.refuses = True
    add(archive, "a", date(2026, 1, 9))
    found = {check.name: check for check in examine(lambda: store, rounds=1).checks}["locks"]
    assert found.status == "warning"
    assert "archiver retain" in found.fix
    store.refuses = False
    retain(archive, Retention(Span(400, "d")))
    store.locks = dict.fromkeys(store.locks, datetime(9000, 1, 1, tzinfo=UTC))
    found = {check.name: check for check in examine(lambda: store, rounds=1).checks}["locks"]
    assert found.status == "ok"


# --- settings ------------------------------------------------------------------------------------------


def test_a_lock_needs_a_span_and_a_bucket(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not for how long"):
        S3Options(object_lock="compliance")
    with pytest.raises(ConfigError, match="expected off, governance or compliance"):
        S3Options(object_lock="on", object_lock_keep="400d")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no span of days"):
        S3Options(object_lock_keep="400")
    options = S3Options(object_lock="governance", object_lock_keep="400d")
    assert options.lock_keep == Span(400, "d")
    with pytest.raises(ConfigError, match="a folder knows no such locks"):
        open_store(str(tmp_path), options)
    assert open_store(str(tmp_path), S3Options(object_lock_keep="400d")).lock_keep is None
    assert open_store("s3://bucket/a", options).lock_keep == Span(400, "d")


def test_the_lock_is_configured_beside_the_archive(tmp_path: Path) -> None:
    config = tmp_path / "archiver.toml"
    config.write_text('[archive]\nobject_lock = "compliance"\nobject_lock_keep = "13mo"\n')
    assert read_settings(config).store.lock_keep == Span(13, "mo")


# --- a real server -------------------------------------------------------------------------------------


def _bucket(server: S3Server, *, locked: bool) -> S3Place:
    import boto3  # noqa: PLC0415  (slow to import)
    from botocore.config import Config  # noqa: PLC0415

    if server.kind == "external":
        pytest.skip("buckets are only made on a server of our own")
    client = boto3.client("s3", endpoint_url=server.endpoint, config=Config(s3={"addressing_style": "path"}))
    name = f"locks-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    if not locked:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return S3Place(server, name, "archive")


def versions(place: S3Place, store: Any) -> list[str]:
    pages = store.clients.repeating().get_paginator("list_object_versions").paginate(Bucket=place.bucket)
    return [
        entry["Key"].removeprefix("archive/")
        for page in pages
        for kind in ("Versions", "DeleteMarkers")
        for entry in page.get(kind, ())
    ]


def test_in_a_versioned_bucket_collect_leaves_no_version_behind(s3_server: S3Server) -> None:
    place = _bucket(s3_server, locked=False)
    archive = init_archive(place.store(), rounds=0)
    archive_bodies(archive, event("old", timestamp="2020-01-01T00:00:00Z"), event("new"))
    (old,) = archive.ledger.snapshot.files.select(until_us=clock.from_text("2021-01-01T00:00:00.000000Z"))
    retain(archive, Retention(Span(10, "y"), {"events": Span(5, "y")}))
    report = collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    assert report.deleted == [old.key]
    assert (report.hidden, report.kept) == ([], {})
    left = versions(place, archive.store)
    assert old.key not in left
    assert not [key for key in left if key.startswith("_probe/")]
    assert verify(archive.store).damages == []


def test_a_locked_archive_keeps_what_expired_until_the_lock_ends_and_says_so(s3_server: S3Server) -> None:
    place = _bucket(s3_server, locked=True)
    store = place.store(object_lock="compliance", object_lock_keep="400d")
    archive = init_archive(store, rounds=0)
    archive_bodies(archive, event("old", timestamp="2020-01-01T00:00:00Z"), event("new"))
    (old,) = archive.ledger.snapshot.files.select(until_us=clock.from_text("2021-01-01T00:00:00.000000Z"))
    until = datetime.now(UTC).date() + timedelta(400)
    assert store.locked_until(old.key).date() == store.locked_until(layout.commit(1)).date() == until
    retained = retain(archive, Retention(Span(10, "y"), {"events": Span(5, "y")}))
    assert retained.locks.problems == []
    assert retained.locks.extended == 1  # the first commit, which `init` does not lock
    report = collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    assert report.deleted == []
    assert report.kept == {old.key: f"locked until {until}T00:00:00Z (compliance)"}
    assert store.info(old.key).bytes == old.bytes
    assert ids_of(open_archive(store)) == ["new"]
    assert verify(store).damages == []
