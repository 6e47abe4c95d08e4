"""Legal holds: set, replaced, released, listed; and what one says that came too late."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import clock
from archiver.archive import Archive, AsOf, open_archive
from archiver.cli.hold import _text as told
from archiver.collect import collect
from archiver.config import Retention
from archiver.errors import CommitConflictError, ConfigError
from archiver.holds import history, release_hold, set_hold
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Hold
from archiver.retain import retain
from archiver.spans import Span
from archiver.status import status
from archiver.store.local import LocalStore
from archiver.verify import verify
from tests.support import archive_bodies, event, ids_of, new_archive

CASE = "case 7, asked for by legal"
NOW = timedelta(0)
RULES = Retention(Span(400, "d"))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = new_archive(tmp_path / "a")
    archive_bodies(
        archive,
        event("old", timestamp="2020-02-29T10:15:00Z"),
        event("old other", workspace="ws_2", timestamp="2020-02-29T10:15:00Z"),
        event("new", timestamp=f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z"),
    )
    return archive


def test_a_hold_is_a_commit_and_in_force_for_everybody(archive: Archive) -> None:
    report = set_hold(archive, Hold("case-7", "ws_1", 5, 10, CASE))
    assert report.commit == 2
    said = archive.ledger.read(2).content
    assert (said.operation, said.hold, said.counts.read) == ("hold", Hold("case-7", "ws_1", 5, 10, CASE), 0)
    assert open_archive(archive.store).ledger.snapshot.holds == {"case-7": said.hold}
    assert verify(archive.store).damages == []


def test_a_hold_that_is_in_force_already_is_not_set_again(archive: Archive) -> None:
    hold = Hold("h", None, None, 10, CASE)
    assert set_hold(archive, hold).commit == 2
    again = set_hold(archive, Hold("h", None, None, 10, "in other words"), replace_cover=True)
    assert again.commit is None
    assert archive.ledger.refresh().sequence == 2


@pytest.mark.parametrize(
    "other", [Hold("h", "ws_1", 5, 10, CASE), Hold("h", None, 4, 10, CASE), Hold("h", None, 5, None, CASE)]
)
def test_a_name_that_covers_something_else_must_be_replaced(archive: Archive, other: Hold) -> None:
    first = Hold("h", None, 5, 10, CASE)
    set_hold(archive, first)
    with pytest.raises(ConfigError, match="covers something else") as caught:
        set_hold(archive, other)
    assert "--replace" in caught.value.hint
    assert archive.ledger.refresh().holds == {"h": first}
    report = set_hold(archive, other, replace_cover=True)
    assert report.replaced == first
    assert archive.ledger.refresh().holds == {"h": other}


def test_a_name_that_somebody_else_takes_meanwhile_is_not_taken_over(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_archive(archive.store)
    original, left = protocol.put_in_slot, [Hold("h", "ws_2", reason=CASE)]

    def put(*args: Any, **rest: Any) -> bool:
        if left:
            set_hold(other, left.pop())
        return original(*args, **rest)

    monkeypatch.setattr(protocol, "put_in_slot", put)
    with pytest.raises(ConfigError, match="covers something else"):
        set_hold(archive, Hold("h", "ws_1", reason=CASE))
    assert archive.ledger.refresh().holds == {"h": Hold("h", "ws_2", reason=CASE)}


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 65, "a\n", "../a"])
def test_what_is_no_name_of_a_hold_is_refused(archive: Archive, name: str) -> None:
    with pytest.raises(ConfigError, match="no name of a hold"):
        set_hold(archive, Hold(name, reason=CASE))


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2001, "a\nb", "\x1b[31m", "\ud800"])
def test_what_is_no_reason_is_refused(archive: Archive, reason: str) -> None:
    with pytest.raises(ConfigError, match="the reason is"):
        set_hold(archive, Hold("h", reason=reason))
    set_hold(archive, Hold("h", reason="é ✓"))
    with pytest.raises(ConfigError, match="the reason is"):
        release_hold(archive, "h", reason=reason)


def test_a_hold_that_covers_nothing_is_refused(archive: Archive) -> None:
    for since, until in ((5, 5), (6, 5)):
        with pytest.raises(ConfigError, match="covers nothing"):
            set_hold(archive, Hold("h", None, since, until, CASE))
    for workspace in ("", "w" * 201, "\ud800"):
        with pytest.raises(ConfigError, match="no workspace"):
            set_hold(archive, Hold("h", workspace, reason=CASE))


def test_releasing_ends_it_and_keeps_its_words(archive: Archive) -> None:
    set_hold(archive, Hold("h", "ws_1", reason=CASE))
    assert release_hold(archive, "h", reason="settled").commit == 3
    assert archive.ledger.refresh().holds == {}
    told = [(one.commit, one.hold.released, one.hold.reason) for one in history(archive)]
    assert told == [(2, False, CASE), (3, True, "settled")]
    with pytest.raises(ConfigError, match="no hold 'h' is in force"):
        release_hold(archive, "h", reason="again")
    assert verify(archive.store).damages == []


def test_a_hold_that_is_overtaken_for_ever_is_not_set(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "put_in_slot", lambda *_, **__: False)
    with pytest.raises(CommitConflictError):
        set_hold(archive, Hold("h", reason=CASE))


# --- too late ------------------------------------------------------------------------------------------


def test_a_hold_that_comes_too_late_says_what_expired_and_how_to_get_it(archive: Archive) -> None:
    retain(archive, RULES)
    report = set_hold(archive, Hold("h", "ws_1", reason=CASE))
    assert (report.expired_files, report.expired_rows, report.still_there) == (1, 1, 1)
    assert report.readable_as_of == 1
    assert ids_of(open_archive(archive.store, as_of=AsOf(1))) == ["new", "old", "old other"]
    assert ids_of(archive) == ["new"]


def test_a_hold_that_covers_nothing_that_is_live_says_so(archive: Archive) -> None:
    live = archive.ledger.snapshot.files
    every = set_hold(archive, Hold("all", reason=CASE))
    assert (every.covered_files, every.covered_rows) == (len(live), sum(one.rows for one in live.values()))
    some = set_hold(
        archive, Hold("late", "ws_1", since_us=clock.from_text("2026-01-01T00:00:00.000000Z"), reason=CASE)
    )
    assert (some.covered_files, some.covered_rows) == (1, 1)
    none = set_hold(archive, Hold("typo", "ws_l", reason=CASE))
    assert (none.covered_files, none.covered_rows) == (0, 0)
    assert "nothing that is live is covered" in told(none)
    assert "nothing that is live is covered" not in told(some)


def test_a_hold_in_force_is_told_as_it_stands_in_the_ledger(archive: Archive) -> None:
    set_hold(archive, Hold("h", "ws_1", reason=CASE))
    assert set_hold(archive, Hold("h", "ws_1", reason="in other words")).hold.reason == CASE


def test_collect_leaves_what_a_late_hold_covers_and_takes_it_after_the_release(archive: Archive) -> None:
    retain(archive, RULES)
    set_hold(archive, Hold("h", "ws_1", reason=CASE))
    collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    there = [one.key for one in archive.store.list("events/")]
    assert sum("workspace=ws_1" in key for key in there) == 2
    assert set_hold(archive, Hold("h2", "ws_1", reason=CASE)).still_there == 1
    for name in ("h", "h2"):
        release_hold(archive, name, reason="settled")
    collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    assert len([one for one in archive.store.list("events/") if "dt=2020" in one.key]) == 0
    assert verify(archive.store).damages == []


def test_what_was_collected_is_not_said_to_be_there(archive: Archive) -> None:
    retain(archive, RULES)
    collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    report = set_hold(archive, Hold("h", reason=CASE))
    assert report.still_there == 0
    assert report.readable_as_of is None


def test_what_was_compacted_is_not_said_to_have_expired(archive: Archive) -> None:
    from archiver.ledger.entry import Content  # noqa: PLC0415

    keys = tuple(archive.ledger.snapshot.files)
    content = Content("compact", "c" * 32, "0" * 28, removed=keys)
    protocol.commit(archive.ledger, content, seen=1)
    assert set_hold(archive, Hold("h", reason=CASE)).expired_files == 0


# --- the command line ----------------------------------------------------------------------------------


def archiver(archive: Archive, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "archiver", *arguments, "--archive", archive.store.location, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    from archiver.cli import main  # noqa: PLC0415

    for name in ("ARCHIVER_JSON", "ARCHIVER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["archiver", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main.main()
    told = capsys.readouterr()
    assert exit_.value.code == 0, told.err
    return told.out


def test_an_operator_holds_expires_and_releases(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--archive", archive.store.location)

    def call(*arguments: str) -> str:
        return in_process(monkeypatch, capsys, *arguments, *place)

    assert "no hold is in force" in call("hold", "list")
    said = call("hold", "set", "case-7", "--workspace", "ws_1", "--until", "2021-01-01", "--reason", CASE)
    cover = "case-7: workspace ws_1, from the beginning to before 2021-01-01T00:00:00.000000Z"
    assert f"in force  {cover}; {CASE}" in said
    assert f"hold        {cover}" in call("status")
    dry = call("retain", "--older-than", "400d", "--dry-run")
    assert "1 file with 1 row would expire" in dry
    assert "held by case-7:" in dry
    assert "nothing is deleted until `archiver collect`" in dry
    done = call("retain", "--older-than", "400d")
    assert "1 file with 1 row expired" in done
    assert "nothing is deleted until `archiver collect`" in done
    assert cover in call("hold", "list")
    assert "released  case-7" in call("hold", "release", "case-7", "--reason", "settled")
    everything = call("hold", "list", "--all")
    assert "commit 2 " in everything
    assert "released" in everything
    assert "1 file with 1 row expired" in call("retain", "--older-than", "400d", "--dataset", "events")
    late = call("hold", "set", "late", "--reason", CASE)
    assert "WARNING     2 files with 2 rows that it covers expired before; 2 of the files" in late
    assert "archiver export --as-of 2 --dataset all" in late
    assert verify(LocalStore(Path(archive.store.location))).damages == []


def test_the_commands_speak_json_and_exit_with_the_usual_codes(archive: Archive) -> None:
    told = archiver(archive, "hold", "set", "h", "--since", "2020-01-01", "--reason", CASE)
    assert told["message_type"] == "hold_report"
    assert told["hold"]["since"] == "2020-01-01T00:00:00.000000Z"
    told = archiver(archive, "retain", "--older-than", "400d")
    assert told["message_type"] == "retain_report"
    assert [one["hold"] for one in told["held"]] == ["h"]
    assert archiver(archive, "retain", "--older-than", "30d", code=2)["message_type"] == "exit_error"
    assert archiver(archive, "retain", code=2)["hint"].startswith("give --older-than")
    assert archiver(archive, "hold", "release", "other", "--reason", "x", code=2)["kind"] == "config"


def test_rules_come_from_the_configuration(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "archiver.toml"
    config.write_text(
        f'[archive]\nlocation = "{archive.store.location}"\n[retention]\nkeep = "400d"\n'
        '[retention.workspaces]\nws_1 = "forever"\n'
    )
    told = in_process(monkeypatch, capsys, "retain", "--config", str(config))
    assert "1 file with 1 row expired" in told
    assert ids_of(archive) == ["new", "old"]


def test_status_tells_of_holds(archive: Archive) -> None:
    assert status(archive).to_json()["holds"] == []
    hold = Hold("h", "ws_1", None, clock.from_text("2021-01-01T00:00:00.000000Z"), CASE)
    set_hold(archive, hold)
    assert status(archive).to_json()["holds"] == [hold.to_json()]
