"""What `doctor` finds of destinations and of the vendor's plan: each fault by its name, with what to do."""

from __future__ import annotations

import fcntl
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import clock
from archiver.archive import Archive
from archiver.config import Settings
from archiver.doctor import examine
from archiver.doctor.destinations import check_destinations
from archiver.doctor.plan import check_plan, streams_of_workspaces, unnecessary
from archiver.errors import ConfigError
from archiver.forward.account import Account
from archiver.forward.cursor import CursorFile, InSpool
from archiver.forward.deadletters import FOLDER, DeadLetters, Letter
from archiver.forward.folders import LOCK, folder_of, make_for_receivers
from archiver.forward.settings import Destination
from archiver.secret import SecretPlace
from archiver.store.base import Store
from archiver.store.health import Check
from archiver.streams import Stream
from tests.forward.contract import outgoing
from tests.forward.spooling import bodies, seal
from tests.services.certificates import self_signed
from tests.support import RECEIVED_US, new_archive

NOW_US = RECEIVED_US + 60_000_000
HOUR_US = 3_600_000_000
TOKEN = "a-token-that-nobody-may-see"
SIEM = Destination(
    name="siem",
    kind="splunk",
    url="https://siem.example.com:8088",
    token=SecretPlace("destination siem: the token", env="SIEM_TOKEN"),
)


class Place:
    """A spool and an archive, and what is configured."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.archive: Archive | None = new_archive(folder / "archive")
        self.settings = Settings(spools=(str(self.spool),), destinations={"siem": SIEM})
        make_for_receivers(self.settings)
        self.state = self.settings.forward_folder / "siem"

    def begin(self) -> Account:
        self.state.mkdir(parents=True, exist_ok=True)
        CursorFile(self.state).write()
        account = Account(self.state)
        account.write()
        return account

    def examine(self, now_us: int = NOW_US, **changes: Any) -> dict[str, Check]:
        """The checks of the destination `siem`, by what stands behind its name."""
        settings = replace(self.settings, destinations={"siem": replace(SIEM, **changes)})
        found = check_destinations(
            settings, self.archive, [self.spool], now_us, environment={"SIEM_TOKEN": TOKEN}
        )
        checks = {check.name.removeprefix("destination siem: "): check for check in found}
        assert TOKEN not in str(checks)
        assert all(check.status in ("ok", "skipped") or check.fix for check in checks.values())
        return checks


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def status_of(check: Check) -> tuple[str, str]:
    return check.status, check.found


def test_a_destination_that_is_well_has_no_finding_and_looking_leaves_nothing(
    place: Place, tmp_path: Path
) -> None:
    place.begin()
    before = sorted(tmp_path.rglob("*"))
    checks = place.examine()
    assert {check.status for check in checks.values()} == {"ok"}
    assert {"settings", "transport", "state", "room", "lag", "requests", "dead letters"} <= checks.keys()
    assert sorted(tmp_path.rglob("*")) == before


# --- settings ----------------------------------------------------------------------------------------


def test_a_secret_that_only_another_user_has_is_skipped_and_one_that_will_not_do_is_not(
    place: Place, tmp_path: Path
) -> None:
    other = replace(SIEM.token, env="ELSEWHERE")  # type: ignore[type-var]
    assert place.examine(token=other)["settings"].status == "skipped"
    empty = tmp_path / "token"
    empty.write_text("\n")
    found = place.examine(token=SecretPlace("destination siem: the token", file=str(empty)))["settings"]
    assert found.status == "failed"
    assert "is empty" in found.found
    absent = SecretPlace("destination siem: the token", file=str(tmp_path / "absent"))
    assert place.examine(token=absent)["settings"].status == "failed"


def test_a_secret_in_the_place_of_its_variables_name_is_not_shown(place: Place) -> None:
    found = place.examine(token=SecretPlace("destination siem: the token", env=TOKEN))["settings"]
    assert found.status == "failed"
    assert "is it the secret itself?" in found.found


def test_a_short_hash_key_and_a_path_that_is_none_are_refused_as_a_run_would(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("short")
    key = SecretPlace("destination siem: the hash key", file=str(tmp_path / "key"))
    found = place.examine(hash=("data.ip_address",), hash_key=key)["settings"]
    assert found.status == "failed"
    assert "characters" in found.found


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://siem.example.com", "ok"),
        ("http://127.0.0.1:8088", "ok"),
        ("http://[::1]:8088", "ok"),
        ("http://siem.example.com", "warning"),
        ("siem.example.com", "failed"),
    ],
)
def test_a_token_goes_over_http_to_this_machine_alone(place: Place, url: str, status: str) -> None:
    assert place.examine(url=url)["transport"].status == status


def test_the_file_of_authorities_is_read_and_its_end_is_told(place: Place, tmp_path: Path) -> None:
    good = self_signed(tmp_path)
    now = clock.now_us()
    long_ago = now - 60 * 24 * HOUR_US
    assert place.examine(long_ago, ca_file=str(good.chain))["ca_file"].status == "ok"
    assert place.examine(now, ca_file=str(good.chain))["ca_file"].status == "warning", "a day is left"
    far = clock.to_us(datetime.now(UTC) + timedelta(days=36_500))
    assert place.examine(far, ca_file=str(good.chain))["ca_file"].status == "failed"
    assert place.examine(ca_file=str(tmp_path / "absent.pem"))["ca_file"].status == "failed"


# --- folders -----------------------------------------------------------------------------------------


def test_a_state_folder_is_tried_and_one_that_is_not_there_yet_is_not_made(
    place: Place, tmp_path: Path
) -> None:
    found = place.examine()["state"]
    assert found.status == "ok"
    assert "is not there yet" in found.found
    (tmp_path / "file").write_text("no folder")
    place.settings = replace(place.settings, forward_state=str(tmp_path / "file"))
    assert place.examine()["state"].status == "failed"


def test_a_folder_that_receivers_cannot_leave_anything_in_is_told(place: Place, tmp_path: Path) -> None:
    folder = folder_of(place.spool, "siem")
    name = f"folder {folder}"
    assert place.examine()[name].status == "ok"
    folder.rmdir()
    assert place.examine()[name].status == "warning"
    folder.symlink_to(tmp_path)
    assert place.examine()[name].status == "failed"


def test_a_folder_that_is_nearly_full_is_told_before_its_links_go(place: Place) -> None:
    folder = folder_of(place.spool, "siem")
    (folder / f"{NOW_US * 1000:016x}-{1:016x}.seg").write_bytes(b"x" * 900)
    assert place.examine(max_waiting_bytes=10_000)["room"].status == "ok"
    found = place.examine(max_waiting_bytes=1_000)["room"]
    assert status_of(found) == ("warning", "900 of 1,000 bytes wait in its folder")


def test_an_archive_is_needed_by_who_reads_it_and_missed_by_who_may_have_to(place: Place) -> None:
    assert place.examine(origin="archive")["archive"].status == "ok"
    place.archive = None
    assert place.examine()["archive"].status == "warning"
    assert place.examine(origin="archive")["archive"].status == "failed"


def test_the_folder_of_a_destination_that_is_configured_no_more_is_named_with_the_way_to_be_rid_of_it(
    place: Place,
) -> None:
    place.begin()
    (place.spool / "consumers" / "another-program").mkdir()
    bare = replace(place.settings, destinations={})
    (found,) = check_destinations(bare, place.archive, [place.spool], NOW_US, environment={})
    assert found.name == "destination siem"
    assert found.status == "warning"
    folder = folder_of(place.spool, "siem")
    assert f"rm -r {folder} " in found.fix
    shutil.rmtree(folder)
    assert list(check_destinations(bare, place.archive, [place.spool], NOW_US, environment={})) == []


# --- how it goes -------------------------------------------------------------------------------------


def test_lag_of_an_hour_is_red_if_nobody_forwards_and_a_warning_if_somebody_does(place: Place) -> None:
    seal(place.spool, bodies(0, 3))
    never = place.examine(RECEIVED_US + HOUR_US - 1_000_000)["lag"]
    assert never.status == "warning"
    assert "nothing was ever forwarded" in never.found
    place.begin()
    assert place.examine(RECEIVED_US + HOUR_US - 1_000_000)["lag"].status == "ok"
    late = place.examine(RECEIVED_US + HOUR_US + 1_000_000)["lag"]
    assert status_of(late) == (
        "failed",
        "3 events behind, the oldest for 3,601 s, and nobody forwards to it",
    )
    with (place.state / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert place.examine(RECEIVED_US + HOUR_US + 1_000_000)["lag"].status == "warning"


def test_an_open_circuit_is_told_with_the_last_trouble_and_red_after_an_hour(place: Place) -> None:
    account = place.begin()
    tally = account.tally
    tally.is_open, tally.failures, tally.failing_since_us = True, 9, NOW_US - 10_000_000
    tally.trouble = "401 (no such token)"
    account.write()
    found = place.examine()["requests"]
    assert status_of(found) == ("warning", "its circuit is open, for 10 s: 401 (no such token)")
    assert "archiver forward siem --test" in found.fix
    assert place.examine(NOW_US + HOUR_US)["requests"].status == "failed"


def test_dead_letters_that_wait_are_a_warning_with_the_command(place: Place) -> None:
    place.begin()
    DeadLetters(place.state / FOLDER).add([Letter.of(outgoing(1), reason="refused", answer="400")])
    found = place.examine()["dead letters"]
    assert found.status == "warning"
    assert "archiver deadletters list siem" in found.fix


def test_a_receiver_that_refuses_everything_and_segments_that_stay_are_red(place: Place) -> None:
    account = place.begin()
    account.tally.refused_in_a_row = 1_000
    account.write()
    DeadLetters(place.state / FOLDER).add([Letter.of(outgoing(1), reason="refused", answer="400")])
    cursor = CursorFile(place.state)
    done = [seal(place.spool, bodies(number, 1)) for number in range(4)]
    cursor.cursor.spools[str(folder_of(place.spool, "siem"))] = InSpool(finished=done)
    cursor.write()
    checks = place.examine()
    assert status_of(checks["dead letters"])[0] == status_of(checks["room"])[0] == "failed"
    assert "it refuses everything" in checks["dead letters"].found


def test_what_cannot_be_read_is_a_warning_and_ends_nothing(place: Place) -> None:
    place.begin()
    for name in ("cursor.json", "cursor.now.json"):
        (place.state / name).write_text("{}")
    checks = place.examine()
    assert checks["standing"].status == "warning"
    assert checks["lag"].status == "skipped"
    assert checks["dead letters"].status == "ok"


def test_a_clock_that_was_set_back_is_told(place: Place) -> None:
    account = place.begin()
    account.tally.taken_us = NOW_US + HOUR_US
    account.write()
    assert place.examine()["clock"].status == "warning"


def test_doctor_looks_at_destinations_and_the_plan(place: Place) -> None:
    def no_store() -> Store:
        raise ConfigError("no archive was named")

    streams = {"a": Stream("/a"), "b": Stream("/b")}
    settings = replace(place.settings, streams=streams, plan="free")
    began = time.monotonic()
    report = examine(no_store, [place.spool], settings=settings)
    assert time.monotonic() - began < 5
    found = {check.name: check.status for check in report.checks}
    assert found["plan free"] == "failed"
    assert found["destination siem: settings"] == "skipped"
    assert found["destination siem: archive"] == "warning"


# --- the plan ----------------------------------------------------------------------------------------


def streams(**workspaces: tuple[str, ...]) -> dict[str, Stream]:
    return {name: Stream(f"/{name}", workspaces=told) for name, told in workspaces.items()}


def plan(name: str | None, configured: dict[str, Stream]) -> list[Check]:
    return list(check_plan(Settings(plan=name, streams=configured)))


def test_streams_are_counted_for_each_workspace_and_those_of_all_for_every_one() -> None:
    found = streams_of_workspaces(streams(a=("ws_1",), b=("ws_1", "ws_2"), c=()))
    assert found == {"ws_1": ["a", "b", "c"], "ws_2": ["b", "c"], "all workspaces": ["c"]}


def test_more_streams_than_the_plan_allows_are_red_and_those_that_could_go_are_named() -> None:
    four = streams(archive=(), splunk=(), datadog=("ws_1",), eu=("ws_1", "ws_2"))
    (found,) = plan("starter", four)
    assert found.status == "failed"
    assert "ws_1: 4 (archive, splunk, datadog, eu)" in found.found
    assert "ws_2" not in found.found
    assert "splunk (its workspaces are those of archive)" in found.fix
    assert "1 would be left, 1 of one workspace at most" in found.fix
    (within,) = plan("pro", four)
    assert within.status == "ok"
    assert "unnecessary: splunk" in within.found
    assert plan("enterprise", four)[0].status == "ok"


def test_streams_of_which_none_covers_another_are_all_needed() -> None:
    (found,) = plan("free", streams(a=("ws_1", "ws_2"), b=("ws_2", "ws_3")))
    assert found.status == "failed"
    assert "ws_2: 2 (a, b)" in found.found
    assert found.fix.startswith("none covers")
    (fine,) = plan("free", streams(a=("ws_1",), b=("ws_2",)))
    assert (fine.status, "unnecessary" in fine.found) == ("ok", False)


def test_what_could_go_is_named_with_a_stream_that_stays() -> None:
    chain = streams(a=("ws_1",), b=("ws_1", "ws_2"), c=("ws_2", "ws_1"), d=("ws_1", "ws_2", "ws_3"))
    assert unnecessary(chain) == {"a": "d", "b": "d", "c": "d"}
    assert unnecessary(streams(a=("ws_1",), b=("ws_1",))) == {"b": "a"}
    assert unnecessary(streams(a=("ws_1",), b=())) == {"a": "b"}
    assert unnecessary(streams(a=(), b=("ws_1",), c=())) == {"b": "a", "c": "a"}


def test_without_a_plan_or_streams_nothing_is_said() -> None:
    assert plan(None, streams(a=(), b=())) == []
    assert plan("free", {}) == []
