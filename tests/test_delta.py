"""The Delta log as we publish it: what is put, what heals, what is noticed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archiver import layout, maintain
from archiver.archive import Archive, open_archive
from archiver.cli.main import cli
from archiver.config import read_settings
from archiver.delta import checkpoint
from archiver.delta.publish import check, newest_version, publish, rebuild
from archiver.errors import ArchiverError, ConfigError, IntegrityError, ObjectNotFoundError, StoreError
from archiver.store.base import Store
from archiver.store.local import LocalStore
from tests.integration.delta_history import expire
from tests.support import alert, archive_bodies, event, new_archive


def _versions(store: Store) -> list[int]:
    names = [info.key.removeprefix(layout.DELTA_LOG) for info in store.list(layout.DELTA_LOG)]
    return [int(name[:20]) for name in names if name.endswith(".json")]


def _log(store: Store) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list(layout.DELTA_LOG)}


class _Around:
    """A store around another; what is not overridden is the other's."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = new_archive(tmp_path / "a")
    for number in range(4):
        archive_bodies(archive, event(f"e{number}", workspace="a b"), event(f"f{number}", workspace="x"))
    return archive


# ------------------------------------------------------------------ publishing


def test_each_commit_is_a_version_of_the_same_number(archive: Archive) -> None:
    report = publish(archive)
    assert report.published == [0, 1, 2, 3, 4]
    assert _versions(archive.store) == [0, 1, 2, 3, 4]
    assert publish(archive).published == []


def test_another_process_derives_the_same_bytes(archive: Archive) -> None:
    publish(archive)
    before = _log(archive.store)
    archive.store.delete(before)
    assert isinstance(archive.store, LocalStore)
    program = (
        "import sys; from pathlib import Path; from archiver.archive import open_archive\n"
        "from archiver.store.local import LocalStore; from archiver.delta.publish import publish\n"
        "publish(open_archive(LocalStore(Path(sys.argv[1]))))"
    )
    subprocess.run(
        [sys.executable, "-c", program, archive.store.location],
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path), "TZ": "Asia/Kathmandu"},
    )
    assert _log(archive.store) == before


def test_what_a_crash_left_out_the_next_run_adds(archive: Archive) -> None:
    publish(archive)
    archive_bodies(archive, event("not published"))
    archive_bodies(archive, event("neither"))
    log = [layout.delta_version(5), layout.delta_version(6)]
    archive.store.delete(log)  # whatever already did it: a crash came before
    maintain.after_commits(open_archive(archive.store))
    assert _versions(archive.store) == list(range(7))
    assert not check(archive).altered


@pytest.mark.parametrize("there", [-1, 0, 1, 17, 36, 37, 38, 39])
def test_the_newest_version_is_found_without_a_listing(tmp_path: Path, there: int) -> None:
    class Counting(LocalStore):
        asked = 0

        def info(self, key: str) -> Any:
            self.asked += 1
            return super().info(key)

        def list(self, prefix: str = "", *, start_after: str = "") -> Any:
            raise AssertionError("no listing")

    store = Counting(tmp_path / "a")
    for version in range(there + 1):
        store.put(layout.delta_version(version), b"")
    assert newest_version(store, 39) == there
    assert store.asked <= 11
    if there == 38:
        assert store.asked == 2


def test_two_that_publish_at_once_put_the_same_versions(archive: Archive) -> None:
    other = open_archive(archive.store)
    archive_bodies(archive, event("later"))
    publish(other)
    publish(archive)
    publish(other)
    assert check(archive).to_json() == {
        "message_type": "publish_report",
        "head": 5,
        "published": [],
        "altered": [],
        "strange": [],
        "checkpoint": None,
    }


def test_other_bytes_that_come_while_we_publish_are_noticed(archive: Archive) -> None:
    archive.store.delete(_log(archive.store))

    class Overtaken(_Around):
        def put(self, key: str, content: bytes, **options: Any) -> None:
            if key == layout.delta_version(2):
                self.store.put(key, b"somebody else's")
            self.store.put(key, content, **options)

    with pytest.raises(IntegrityError, match=r"00000000000000000002\.json"):
        publish(replace(archive, store=Overtaken(archive.store)))  # type: ignore[arg-type]


def test_versions_are_put_in_order_so_that_a_failure_leaves_no_gap(archive: Archive) -> None:
    archive.store.delete(_log(archive.store))

    class Failing(_Around):
        def put(self, key: str, content: bytes, **options: Any) -> None:
            if key == layout.delta_version(2):
                raise StoreError("the disk is full")
            self.store.put(key, content, **options)

    with pytest.raises(StoreError):
        publish(replace(archive, store=Failing(archive.store)))  # type: ignore[arg-type]
    assert _versions(archive.store) == [0, 1]
    assert publish(archive).published == [2, 3, 4]


def test_an_archive_of_json_lines_has_no_delta_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("archiver"), "propagate", True)
    archive = new_archive(tmp_path / "a", format="jsonl.gz")
    archive_bodies(archive, event("e"))
    for action in (publish, check, rebuild):
        with pytest.raises(ConfigError, match="has no Delta log"):
            action(archive)
    maintain.after_commits(archive)
    assert _log(archive.store) == {}
    assert "Delta" not in caplog.text  # nothing is amiss


def test_who_wants_no_delta_log_gets_none_from_a_run(tmp_path: Path) -> None:
    archive = replace(new_archive(tmp_path / "a"), publishes_delta=False)
    maintain.after_commits(archive)
    assert _log(archive.store) == {}
    maintain.after_commits(replace(archive, publishes_delta=True))
    assert _versions(archive.store) == [0]


def test_a_log_that_cannot_be_written_never_fails_a_run(
    archive: Archive, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("archiver"), "propagate", True)
    archive.store.delete(_log(archive.store))
    archive.store.put(layout.delta_version(0), b"somebody else's")
    maintain.after_commits(archive)
    assert f"the Delta log is not up to date: {layout.delta_version(0)}" in caplog.text
    assert _versions(archive.store) == [0]


def test_a_version_that_somebody_put_before_us_is_noticed_at_the_next_commit(archive: Archive) -> None:
    publish(archive)
    archive.store.put(layout.delta_version(5), b'{"commitInfo":{}}\n')
    archive_bodies(archive, event("next"))
    with pytest.raises(IntegrityError, match=r"00000000000000000005\.json"):
        publish(archive)
    archive_bodies(archive, event("and another"))
    with pytest.raises(IntegrityError, match=r"00000000000000000005\.json"):
        publish(archive)


# ------------------------------------------------------------------ checkpoints


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 2)


def test_a_checkpoint_holds_exactly_the_live_files(archive: Archive) -> None:
    publish(archive)
    assert checkpoint.write(archive) == 8
    pointer = checkpoint.read_pointer(archive.store)
    assert pointer == checkpoint.Pointer(version=4, files=8)
    content = archive.store.get(layout.delta_checkpoint(4))
    first, files = archive.ledger.read(0), archive.ledger.snapshot.files.select("events")
    assert checkpoint.says(content, first, files)
    assert checkpoint.says(content, first, reversed(files))
    assert not checkpoint.says(content, first, files[1:])
    assert not checkpoint.says(b"PAR1", first, files)


def test_a_checkpoint_is_the_same_however_its_files_are_portioned(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(archive)
    checkpoint.write(archive)
    one_by_one = archive.store.get(layout.delta_checkpoint(4))
    monkeypatch.setattr(checkpoint, "_SLICE", 1)
    checkpoint.write(archive)
    first, files = archive.ledger.read(0), archive.ledger.snapshot.files.select("events")
    assert checkpoint.says(archive.store.get(layout.delta_checkpoint(4)), first, files)
    assert checkpoint.says(one_by_one, first, files)


def test_a_checkpoint_comes_with_each_multiple_unless_little_has_changed(
    archive: Archive, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.store.delete(_log(archive.store))
    assert publish(archive).checkpoint == 4
    archive_bodies(archive, event("one"))
    assert publish(archive).checkpoint is None  # 5 is no multiple
    archive_bodies(archive, alert("two"))
    assert publish(archive).checkpoint == 6  # a file more than eight is a tenth
    archive_bodies(archive, alert("three"))
    archive_bodies(archive, alert("four"))
    assert publish(archive).checkpoint is None  # the table is the same
    monkeypatch.setattr(checkpoint, "AT_LEAST_EVERY", 4)
    archive_bodies(archive, alert("five"))
    archive_bodies(archive, alert("six"))
    assert publish(archive).checkpoint == 10
    assert check(archive).strange == []


def test_a_pointer_that_cannot_be_read_is_as_good_as_none(archive: Archive, often: None) -> None:
    archive.store.put(layout.DELTA_POINTER, b"{}", mode="overwrite")
    archive_bodies(archive, event("one"))
    archive_bodies(archive, event("two"))
    archive.store.delete([layout.delta_version(6)])
    assert publish(archive).checkpoint == 6


# ------------------------------------------------------------------ what somebody else did to it


def _alter(store: Store, key: str, old: bytes, new: bytes) -> None:
    content = store.get(key)
    assert old in content
    store.put(key, content.replace(old, new), mode="overwrite")


def test_an_altered_version_is_named_and_a_rebuild_restores_its_bytes(archive: Archive) -> None:
    publish(archive)
    before = {key: content for key, content in _log(archive.store).items() if key.endswith(".json")}
    _alter(archive.store, layout.delta_version(2), b'"numRecords', b'"numrecords')
    archive.store.delete([layout.delta_version(3)])
    report = check(archive)
    assert (report.altered, report.published) == ([2], [3])
    with pytest.raises(IntegrityError, match=r"00000000000000000002\.json"):
        report.refuse()
    assert layout.delta_version(3) not in _log(archive.store)
    rebuild(archive)
    assert {key: content for key, content in _log(archive.store).items() if key.endswith(".json")} == before
    check(archive).refuse()


def test_a_version_behind_the_head_is_strange_and_a_rebuild_deletes_it(archive: Archive) -> None:
    publish(archive)
    foreign = layout.delta_version(5)
    archive.store.put(foreign, b'{"remove":{}}\n')
    assert check(archive).strange == [foreign]
    rebuild(archive)
    assert foreign not in _log(archive.store)


def test_a_checkpoint_that_hides_a_file_is_strange_and_so_is_the_pointer_to_it(archive: Archive) -> None:
    publish(archive)
    first, files = archive.ledger.read(0), archive.ledger.snapshot.files.select("events")
    checkpoint.write(archive)
    archive.store.put(layout.delta_checkpoint(4), checkpoint.encode(first, [files[1:]]), mode="overwrite")
    report = check(archive)
    assert report.strange == [layout.delta_checkpoint(4), layout.DELTA_POINTER]
    rebuild(archive)
    check(archive).refuse()
    assert checkpoint.says(archive.store.get(layout.delta_checkpoint(4)), first, files)


def test_a_check_knows_what_is_no_longer_live(archive: Archive) -> None:
    expire(archive, "2026-03-26", workspaces=("x",))
    publish(archive)
    assert checkpoint.write(archive) == 4
    check(archive).refuse()


def test_a_log_that_was_lost_is_made_again_as_it_was(archive: Archive) -> None:
    publish(archive)
    checkpoint.write(archive)
    before = _log(archive.store)
    archive.store.delete(before)
    report = rebuild(archive)
    assert report.published == [0, 1, 2, 3, 4]
    assert _log(archive.store) == before


def test_a_check_writes_nothing(archive: Archive) -> None:
    archive.store.delete(_log(archive.store))
    assert check(archive).published == [0, 1, 2, 3, 4]
    assert _log(archive.store) == {}
    with pytest.raises(ObjectNotFoundError):
        archive.store.info(layout.delta_version(0))


# ------------------------------------------------------------------ the command


Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def archiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Call the command line in this process: exit code and document."""
    for name in [name for name in os.environ if name.startswith("ARCHIVER_")]:
        monkeypatch.delenv(name)
    logger = logging.getLogger("archiver")
    before = (logger.handlers, logger.propagate, logger.level)

    def call(*words: str, **environment: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(cli, [*words, "--json"], env=environment)
        if isinstance(done.exception, ArchiverError):
            return done.exception.exit_code, {"message": done.exception.message}
        return done.exit_code, json.loads(done.stdout)

    yield call
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


def test_the_command_publishes_checks_and_mends(archive: Archive, archiver: Command) -> None:
    where = ("--archive", archive.store.location)
    code, told = archiver("publish", "delta", "--dry-run", *where)
    assert (code, told["published"]) == (0, [0, 1, 2, 3, 4])
    assert _log(archive.store) == {}
    code, told = archiver("publish", "delta", *where)
    assert (code, told["published"]) == (0, [0, 1, 2, 3, 4])
    _alter(archive.store, layout.delta_version(2), b'"add"', b'"txn"')
    code, told = archiver("publish", "delta", *where, ARCHIVER_DRY_RUN="1")
    assert code == 20
    assert layout.delta_version(2) in told["message"]
    code, told = archiver("publish", "delta", "--rebuild", *where)
    assert (code, told["altered"], told["checkpoint"]) == (0, [2], 4)
    assert archiver("publish", "delta", "--dry-run", *where)[0] == 0


def test_the_setting_and_the_variable_say_whether_a_run_publishes(tmp_path: Path, archiver: Command) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "off.toml").write_text("[delta]\npublish = false\n")
    words = ("run", "--settle", "0", "--spool", str(tmp_path / "spool"), "--archive", str(tmp_path / "a"))
    store = LocalStore(tmp_path / "a")
    for number, (config, variable, is_published) in enumerate(
        [("off.toml", "", False), ("off.toml", "1", True), ("", "0", False), ("", "", True)]
    ):
        (tmp_path / "spool" / f"{number}.jsonl").write_bytes(event(f"e{number}"))
        more = ("--config", str(tmp_path / config)) if config else ()
        code, _ = archiver(*words, *more, ARCHIVER_PUBLISH_DELTA=variable)
        assert code == 0
        assert (number + 1 in _versions(store)) is is_published, (config, variable)
    code, told = archiver("status", "--archive", str(tmp_path / "a"), ARCHIVER_PUBLISH_DELTA="perhaps")
    assert code == 2
    assert "ARCHIVER_PUBLISH_DELTA" in told["message"]


def test_a_wrong_type_of_the_setting_is_refused(tmp_path: Path) -> None:
    for wrong in ('"no"', "0"):
        (tmp_path / "archiver.toml").write_text(f"[delta]\npublish = {wrong}\n")
        with pytest.raises(ConfigError, match="wrong type"):
            read_settings(tmp_path / "archiver.toml")
    (tmp_path / "archiver.toml").write_text("[run]\nworkers = true\n")
    with pytest.raises(ConfigError, match="wrong type"):
        read_settings(tmp_path / "archiver.toml")
