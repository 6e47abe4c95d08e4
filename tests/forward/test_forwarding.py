"""Destinations side by side: once or for as long as wanted, each with its own cursor, lock and account."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from archiver.archive import Archive, open_archive
from archiver.config import Settings
from archiver.errors import ConfigError
from archiver.forward import run
from archiver.forward.account import read_tally
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
from tests.services.standin import Fault, Reply
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
            Sender, "send", lambda one, reader: read.append(type(reader)) or real(one, reader)
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
        missing = SecretPlace("destination other: the token", env="NO_SUCH_VARIABLE")
        settings = settings_of(spool, to(hook), to(hook, "other", token=missing))
        seal(spool, bodies(0, 1))
        with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE is not set"):
            forward(settings, ["siem", "other"], none, environment={})
    assert hook.requests == 0


def test_a_cursor_in_the_ledger_is_kept_over_processes(spool: Path, archive: Archive) -> None:
    hook = HookStandIn()
    with hook.serving():
        settings = settings_of(spool, to(hook, origin="archive"))
        forward(settings, ["siem"], lambda: archive, policy=QUICK)
        found = read_cursor(state_folder(settings, "siem"))
    assert found is not None
    assert found.archive == InArchive(archive.ledger.snapshot.sequence + 1)
