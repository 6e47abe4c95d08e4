"""Destinations side by side: once or for as long as wanted, each with its own cursor, lock and account."""

from __future__ import annotations

import contextlib
import errno
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from archiver.archive import Archive, open_archive
from archiver.config import Settings
from archiver.errors import ArchiverError, ConfigError, SourceError
from archiver.forward import cursor, run
from archiver.forward.account import read_tally
from archiver.forward.base import Reader
from archiver.forward.commits import Commits
from archiver.forward.cursor import InArchive, read_cursor
from archiver.forward.deliveries import Deliveries
from archiver.forward.outlet import locked, prepare, state_folder
from archiver.forward.run import Forwarded, forward
from archiver.forward.sending import Policy, Sender
from archiver.forward.settings import Destination
from archiver.runs import run_sources
from archiver.secret import SecretPlace
from archiver.store.local import LocalStore
from tests.forward.sending import QUICK
from tests.forward.spooling import bodies, seal, waiting
from tests.services.hook import HookStandIn
from tests.services.process import wait_until
from tests.services.standin import Asked, Fault, Reply
from tests.support import archive_bodies, new_archive


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "archive")


def none() -> Archive:
    raise AssertionError("no archive is needed")


def to(standin: HookStandIn, name: str = "siem", **parts: object) -> Destination:
    made = Destination(name=name, kind="http", url=f"{standin.url}/in", options={"batch": "lines"})
    return replace(made, **parts)  # type: ignore[arg-type]


def settings_of(spool: Path, *destinations: Destination) -> Settings:
    settings = Settings(spools=(str(spool),), destinations={one.name: one for one in destinations})
    for one in destinations:
        prepare(settings, one)
    return settings


def arrived(standin: HookStandIn) -> list[str]:
    return [json.loads(body)["data"]["id"] for body in standin.bodies]


def ids(first: int, count: int) -> list[str]:
    return [f"e{number}" for number in range(first, first + count)]


@contextmanager
def following(settings: Settings, *names: str, policy: Policy = QUICK) -> Iterator[None]:
    """Follow as long as the block lasts."""
    stop, results = threading.Event(), list[list[Forwarded]]()

    def follow() -> None:
        results.append(forward(settings, names, none, follow=True, policy=policy, stop=stop))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert [one.error for one in results[0]] == [None] * len(names)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.01)


def test_what_waits_is_sent_and_counted_and_the_next_one_begins_behind_it(spool: Path) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook))
        seal(spool, [*bodies(0, 3), b"{"])
        (first,) = forward(settings, ["siem"], none, policy=QUICK)
        seal(spool, bodies(3, 2))
        (second,) = forward(settings, ["siem"], none, policy=QUICK)
    assert arrived(hook) == ids(0, 5)
    assert (first.tally.taken, first.tally.invalid, first.is_complete, first.exit_code) == (3, 1, True, 0)
    assert (second.tally.taken, second.tally.requests) == (2, 1)
    assert read_tally(state_folder(settings, "siem")).taken == 5
    assert waiting(spool) == []


def test_a_destination_that_is_down_holds_up_no_other(spool: Path) -> None:
    well, ill = HookStandIn(), HookStandIn()
    quick = replace(QUICK, give_up_after=0.05)
    with well.serving(), ill.serving():
        ill.fault(Fault("reply", Reply(503), times=1000))
        settings = settings_of(spool, to(ill, "ill"), to(well, "well"))
        seal(spool, bodies(0, 3))
        down, up = forward(settings, ["ill", "well"], none, policy=quick)
        assert arrived(well) == ids(0, 3)
        assert up.exit_code == 0
        assert down.exit_code == 1
        assert "503" in str(down.error)
        assert waiting(spool, "ill")
        ill.script.clear()
        (again,) = forward(settings, ["ill"], none, policy=QUICK)
    assert again.error is None
    assert arrived(ill) == ids(0, 3)


def test_what_comes_while_it_follows_is_sent_within_a_moment(spool: Path) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook))
        with following(settings, "siem"):
            for number in range(3):
                seal(spool, bodies(number, 1))
                wait_until("it arrives", lambda number=number: arrived(hook) == ids(0, number + 1), 5)


def test_a_token_that_is_mended_is_read_again_while_it_follows(spool: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    hook = HookStandIn(token="new")
    with hook.serving():
        settings = settings_of(spool, to(hook, token=SecretPlace("the token", file=str(token))))
        seal(spool, bodies(0, 2))
        with following(settings, "siem"):
            wait_until("it was refused", lambda: hook.requests > 1, 5)
            assert read_tally(state_folder(settings, "siem")).dead == 0
            token.write_text("new\n")
            wait_until("it arrives", lambda: arrived(hook) == ids(0, 2), 5)


def test_a_second_process_leaves_a_destination_to_the_first(spool: Path) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook))
        seal(spool, bodies(0, 1))
        with locked(state_folder(settings, "siem"), "siem"):
            (found,) = forward(settings, ["siem"], none, policy=QUICK)
    assert found.is_busy
    assert found.exit_code == 0
    assert hook.requests == 0


def test_who_follows_waits_for_another_process_and_then_goes_on(spool: Path) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook))
        seal(spool, bodies(0, 1))
        with contextlib.ExitStack() as ends:
            with locked(state_folder(settings, "siem"), "siem"):
                ends.enter_context(following(settings, "siem"))
                time.sleep(0.1)
                assert hook.requests == 0
            wait_until("it arrives", lambda: arrived(hook) == ids(0, 1), 5)


def test_an_error_that_nobody_thought_of_does_not_end_a_destination_that_is_followed(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, failed = HookStandIn(), list[int]()
    real = Sender.send

    def send(one: Sender, reader: Reader) -> bool:
        if not failed:
            failed.append(1)
            raise ZeroDivisionError
        return real(one, reader)

    monkeypatch.setattr(Sender, "send", send)
    with hook.serving():
        settings = settings_of(spool, to(hook))
        seal(spool, bodies(0, 1))
        with following(settings, "siem"):
            wait_until("it arrives", lambda: arrived(hook) == ids(0, 1), 5)
    assert failed


def test_nothing_is_sent_whose_taking_could_not_be_remembered(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook))
        forward(settings, ["siem"], none, policy=QUICK)
        seal(spool, bodies(0, 1))

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(cursor.durable, "replace", full)
        (found,) = forward(settings, ["siem"], none, policy=QUICK)
    assert "cannot write the cursor: No space left" in str(found.error)
    assert hook.requests == 0


def test_a_spool_that_is_not_there_does_not_come_into_being(tmp_path: Path) -> None:
    gone = tmp_path / "not" / "mounted"
    destination = Destination(name="siem", kind="http", url="http://127.0.0.1:9")
    settings = Settings(spools=(str(gone),), destinations={"siem": destination})
    with pytest.raises(SourceError, match="no such spool folder"):
        prepare(settings, destination)
    assert not gone.parent.exists()


def test_a_folder_that_outgrows_its_limit_while_it_is_read_goes_on_from_the_ledger(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STRETCH_SECONDS", 0.0)
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook, max_waiting_bytes=1500))
        seal(spool, bodies(0, 2))
        store = LocalStore(tmp_path / "archive")
        real, calls = hook.answer, list[int]()

        def answer(asked: Asked) -> Reply:
            if not calls:
                for number in range(1, 5):
                    seal(spool, bodies(2 * number, 2))
                run_sources(store, settings)
            calls.append(1)
            return real(asked)

        hook.answer = answer  # type: ignore[method-assign]
        seal(spool, bodies(10, 1))
        (found,) = forward(settings, ["siem"], lambda: open_archive(store), policy=QUICK)
    assert found.is_complete
    assert set(arrived(hook)) == set(ids(0, 11))
    state = read_cursor(state_folder(settings, "siem"))
    assert state is not None
    assert state.archive_id == open_archive(store).id
    assert waiting(spool) == []


def test_a_destination_of_the_archive_gets_each_event_once_from_now_on(spool: Path, archive: Archive) -> None:
    hook = HookStandIn()
    archive_bodies(archive, *bodies(0, 2))
    with hook.serving():
        settings = settings_of(spool, to(hook, origin="archive"))

        def again() -> list[Forwarded]:
            return forward(settings, ["siem"], lambda: archive, policy=QUICK)

        again()
        archive_bodies(archive, *bodies(2, 2))
        archive_bodies(archive, *bodies(2, 2), *bodies(4, 1))
        (found,) = again()
        again()
    assert sorted(arrived(hook)) == ids(2, 3)
    assert found.tally.taken == 3


def test_a_folder_above_its_limit_is_sent_from_where_no_archive_can_be_read(
    spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def gone() -> Archive:
        raise ArchiverError("no archive is here")

    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook, max_waiting_bytes=100))
        seal(spool, bodies(0, 2))
        (found,) = forward(settings, ["siem"], gone, policy=QUICK)
    assert (arrived(hook), found.error) == (ids(0, 2), None)
    assert "goes on waiting: no archive is here" in caplog.text


def test_what_waits_is_not_lost_when_a_destination_is_to_read_the_archive_instead(
    spool: Path, tmp_path: Path
) -> None:
    hook = HookStandIn()
    store = LocalStore(tmp_path / "archive")
    with hook.serving():
        settings = settings_of(spool, to(hook))
        seal(spool, bodies(0, 2))
        run_sources(store, settings)
        settings = settings_of(spool, to(hook, origin="archive"))
        seal(spool, bodies(2, 2))
        forward(settings, ["siem"], lambda: open_archive(store), policy=QUICK)
        assert arrived(hook) == ids(0, 2)
        run_sources(store, settings)
        forward(settings, ["siem"], lambda: open_archive(store), policy=QUICK)
    assert arrived(hook) == ids(0, 4)
    assert waiting(spool) == []  # receivers go on to leave links there


def test_a_folder_above_its_limit_goes_on_from_the_ledger_and_back(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook, max_waiting_bytes=1000))
        for number in range(3):
            seal(spool, bodies(2 * number, 2))
        store = LocalStore(tmp_path / "archive")
        run_sources(store, settings)
        seal(spool, bodies(6, 1))
        read: list[type] = []
        real = Sender.send
        monkeypatch.setattr(
            Sender, "send", lambda one, reader: read.append(type(reader.reader)) or real(one, reader)
        )
        (found,) = forward(settings, ["siem"], lambda: open_archive(store), policy=QUICK)
        assert arrived(hook) == ids(0, 7)
        assert read == [Commits, Deliveries]
        assert waiting(spool) == []
        assert read_cursor(state_folder(settings, "siem")).archive is None  # type: ignore[union-attr]
        assert found.error is None


def test_what_cannot_begin_is_told_before_anything_is_sent(spool: Path) -> None:
    hook = HookStandIn()
    with hook.serving():
        missing = SecretPlace("destination siem: the token", env="NO_SUCH_VARIABLE")
        settings = settings_of(spool, to(hook, token=missing))
        seal(spool, bodies(0, 1))
        with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE is not set"):
            forward(settings, ["siem"], none, environment={})
    assert hook.requests == 0


def test_a_destination_that_cannot_begin_holds_up_no_other(spool: Path) -> None:
    hook = HookStandIn()
    with hook.serving():
        missing = SecretPlace("destination other: the token", env="NO_SUCH_VARIABLE")
        settings = settings_of(
            spool, to(hook, "other", token=missing), to(hook), to(hook, "stuck", origin="archive")
        )
        seal(spool, bodies(0, 2))
        state_folder(settings, "stuck").rmdir()
        state_folder(settings, "stuck").write_text("")
        other, siem, stuck = forward(settings, ["other", "siem", "stuck"], none, environment={}, policy=QUICK)
    assert arrived(hook) == ids(0, 2)
    assert (other.exit_code, siem.exit_code, stuck.exit_code) == (2, 0, 1)
    assert "NO_SUCH_VARIABLE is not set" in str(other.error)
    assert waiting(spool, "other")


def test_a_cursor_in_the_ledger_is_kept_over_processes(spool: Path, archive: Archive) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook, origin="archive"))
        forward(settings, ["siem"], lambda: archive, policy=QUICK)
        found = read_cursor(state_folder(settings, "siem"))
    assert found is not None
    assert found.archive == InArchive(archive.ledger.snapshot.sequence + 1)
