"""What an operator sees of a destination: lag, account, dead letters, trouble; from files alone."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from archiver.archive import Archive
from archiver.cli.forward import forward_command
from archiver.cli.run import run_command
from archiver.cli.status import standing_lines, status_command
from archiver.config import Settings, read_settings
from archiver.errors import ArchiverError
from archiver.forward.account import FILE, Account
from archiver.forward.base import Lag
from archiver.forward.cursor import CursorFile, InSpool
from archiver.forward.deadletters import FOLDER, DeadLetters, Letter
from archiver.forward.folders import LOCK, folder_of, make_for_receivers
from archiver.forward.metrics import MetricsFile, destination_families, families_of
from archiver.forward.standing import Standing, standing_of, standings
from archiver.receiver import server
from archiver.streams import Stream
from tests.forward.contract import outgoing
from tests.forward.place import LATER_US, LIVE, OF_ARCHIVE, archive, settings, spool, state
from tests.forward.spooling import bodies, seal
from tests.support import RECEIVED_US
from tests.test_receiver_metrics import documented

__all__ = ["archive", "settings", "spool", "state"]  # fixtures: pytest finds them here by name

# --- standing ----------------------------------------------------------------------------------------


def fill(state: Path) -> None:
    """Leave an account with trouble, and a dead letter."""
    account = Account(state)
    tally = account.tally
    tally.taken, tally.retries, tally.requests, tally.dead, tally.filtered = 12_345, 3, 20, 2, 7
    tally.taken_us, tally.trouble_us, tally.failing_since_us = RECEIVED_US, RECEIVED_US, RECEIVED_US
    tally.failures, tally.is_open, tally.trouble = 6, True, "503 (\x1b[31mbusy\nnow)"
    account.write()
    DeadLetters(state / FOLDER).add([Letter.of(outgoing(1), reason="refused", answer="400")])


def test_a_destination_that_never_ran_says_so(settings: Settings, spool: Path) -> None:
    seal(spool, bodies(0, 2))
    (found,) = standings(settings, now_us=LATER_US)
    assert (found.has_begun, found.is_running, found.problems) == (False, False, [])
    (line,) = standing_lines(found)
    assert line.startswith("destination siem: splunk, reads its folder, 2 events")
    assert "never ran: `archiver forward siem`" in line
    assert not (settings.forward_folder / "siem").exists()


def test_all_that_is_known_is_told_in_lines_that_a_terminal_can_show(settings: Settings, state: Path) -> None:
    fill(state)
    found = standing_of(settings, LIVE, None, LATER_US)
    assert found.has_begun
    assert found.dead_letters == 1
    text = "\n".join(lines := standing_lines(found))
    assert "taken 12,345 in 20 requests, 3 of them retries" in text
    assert "1 dead letter waiting" in text
    assert "CIRCUIT OPEN since 2026-03-26T10:15:00.000000Z: 503" in text
    assert all(line.isprintable() for line in lines)
    told = json.loads(json.dumps(found.to_json()))
    assert told["circuit_open"] is True
    assert told["last_taken_at"] == "2026-03-26T10:15:00.000000Z"
    assert told["lag"] == {"events": 0, "seconds": 0.0, "complete": True, "bytes": 0, "stuck": 0}


def test_a_receiver_that_refuses_everything_and_segments_that_stay_are_told(
    settings: Settings, spool: Path, state: Path
) -> None:
    account = Account(state)
    account.tally.refused_in_a_row, account.tally.dead = 1_000, 1_000
    account.write()
    assert not standing_of(settings, LIVE, None, LATER_US).refuses_everything  # all were sent again
    DeadLetters(state / FOLDER).add([Letter.of(outgoing(1), reason="refused", answer="400")])
    cursor = CursorFile(state)
    done = [seal(spool, bodies(number, 1)) for number in range(4)]
    cursor.cursor.spools[str(folder_of(spool, "siem"))] = InSpool(finished=done)
    cursor.write()
    text = "\n".join(standing_lines(standing_of(settings, LIVE, None, LATER_US)))
    assert "REFUSES EVERYTHING: the last 1,000 events became dead letters" in text
    assert "4 segments that it took cannot be removed" in text
    assert "nothing waits" in text


def test_whoever_forwards_at_this_moment_is_seen_and_looking_leaves_the_lock_free(
    settings: Settings, state: Path
) -> None:
    (state / LOCK).touch()
    assert standing_of(settings, LIVE, None, LATER_US).is_running is False
    with (state / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert standing_of(settings, LIVE, None, LATER_US).is_running is True


def test_what_cannot_be_read_is_told_and_the_rest_is_there_all_the_same(
    settings: Settings, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(state)
    (state / LOCK).touch()
    real = os.open

    def guarded(path: Any, *rest: Any, **options: Any) -> int:
        if str(path).endswith((FILE, LOCK)):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", guarded)
    found = standing_of(settings, LIVE, None, LATER_US)
    assert found.is_running is None
    assert len(found.problems) == 2
    assert found.dead_letters == 1
    assert found.lag == Lag()
    assert "taken" not in "".join(standing_lines(found))
    samples = {one.name: one.samples for one in destination_families([found], LATER_US)}
    assert samples["archiver_forward_taken_events"] == []
    assert samples["archiver_forward_dead_letters_waiting"] != []


def test_an_archive_is_opened_once_and_only_where_it_is_read(settings: Settings, archive: Archive) -> None:
    opened = []

    def open_archive() -> Archive:
        opened.append(1)
        return archive

    standings(settings, open_archive)
    assert opened == []
    both = {name: replace(OF_ARCHIVE, name=name) for name in ("a", "b")}
    found = standings(replace(settings, destinations=both), open_archive)
    assert len(opened) == 1
    assert [one.lag for one in found] == [Lag(), Lag()]


def test_an_archive_that_cannot_be_opened_is_a_problem_of_those_that_read_it(settings: Settings) -> None:
    def open_archive() -> Archive:
        raise ArchiverError("no archive is here")

    mixed = {"a": replace(OF_ARCHIVE, name="a"), "siem": LIVE}
    first, second = standings(replace(settings, destinations=mixed), open_archive)
    assert (first.lag, first.problems) == (None, ["no archive is here"])
    assert (second.lag, second.problems) == (Lag(), [])


def test_status_tells_of_destinations_as_text_and_as_json(
    settings: Settings, spool: Path, tmp_path: Path, archive: Archive
) -> None:
    seal(spool, bodies(0, 2))
    file = tmp_path / "archiver.toml"
    file.write_text(
        f'[archive]\nlocation = "{archive.store.location}"\n[spool]\nfolders = ["{spool}"]\n'
        '[destinations.siem]\ntype = "splunk"\nurl = "https://siem.example.com"\ntoken_env = "TOKEN"\n'
    )
    text = CliRunner().invoke(status_command, ["--config", str(file)])
    assert text.exit_code == 0, text.output
    assert "destination siem: splunk, reads its folder, 2 events" in text.stdout
    told = json.loads(CliRunner().invoke(status_command, ["--config", str(file), "--json"]).stdout)
    assert told["destinations"][0]["lag"]["events"] == 2
    past = CliRunner().invoke(status_command, ["--config", str(file), "--json", "--as-of", "1"])
    assert json.loads(past.stdout)["destinations"] == []


# --- metrics -----------------------------------------------------------------------------------------


def values(text: str) -> Mapping[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_document_lists_every_metric_of_a_destination_and_no_other() -> None:
    one = Standing("siem", "splunk", "deliveries", lag=Lag(), dead_letters=0)
    one.tally.taken_us = 1
    found = {
        family.name: ("gauge", sorted({name for labels, _ in family.samples for name in labels}), family.told)
        for family in destination_families([one], 2)
    }
    told = documented("Destinations")
    assert {name: (kind, sorted(labels), text) for name, (kind, labels, text) in told.items()} == found


def test_the_metrics_of_destinations_are_left_whole_and_what_is_unknown_has_no_sample(
    settings: Settings, state: Path, tmp_path: Path
) -> None:
    fill(state)
    both = replace(settings, destinations={"siem": LIVE, "old": replace(OF_ARCHIVE, name="old")})

    def open_archive() -> Archive:
        raise ArchiverError("no archive is here")

    file = MetricsFile(tmp_path / "forward.prom", both, open_archive)
    file.look()
    found = values((tmp_path / "forward.prom").read_text())
    assert found["archiver_forward_taken_events", "siem", "splunk"] == 12_345
    assert found["archiver_forward_circuit_is_open", "siem", "splunk"] == 1
    assert found["archiver_forward_dead_letters_waiting", "siem", "splunk"] == 1
    assert found["archiver_forward_failing_seconds", "siem", "splunk"] > 0
    assert found["archiver_forward_lag_events", "siem", "splunk"] == 0
    assert ("archiver_forward_lag_events", "old", "splunk") not in found
    assert ("archiver_forward_last_taken_timestamp_seconds", "old", "splunk") not in found
    (tmp_path / "forward.prom").unlink()
    file.look()
    assert not (tmp_path / "forward.prom").exists(), "that was a moment ago"
    with pytest.raises(ArchiverError, match="cannot be written"):
        MetricsFile(tmp_path / "absent" / "forward.prom", both, open_archive).write()


def test_without_destinations_there_are_no_metrics_of_them() -> None:
    assert families_of(Settings()) == []


@pytest.fixture
def configured(tmp_path: Path, settings: Settings, spool: Path) -> Iterator[Path]:
    """A configuration file with one destination, which nobody listens at, and a file for a run's metrics."""
    file = tmp_path / "archiver.toml"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/in"
        file.write_text(
            f'[archive]\nlocation = "{tmp_path / "archive"}"\n'
            f'[spool]\nfolders = ["{spool}"]\nsettle_seconds = 0\n'
            '[run]\nworkers = 0\nmetrics_file = "run.prom"\n'
            f'[destinations.siem]\ntype = "http"\nurl = "{url}"\n'
        )
        yield file


def test_a_run_leaves_the_metrics_of_destinations_unless_forwarding_does(
    configured: Path, spool: Path
) -> None:
    seal(spool, bodies(0, 3))
    done = CliRunner().invoke(run_command, ["--config", str(configured), "--quiet"])
    assert done.exit_code == 0, done.output
    found = values((configured.parent / "run.prom").read_text())
    assert found["archiver_forward_lag_events", "siem", "http"] == 3
    assert found["archiver_run_events", "archived"] == 3
    configured.write_text(configured.read_text() + '[forward]\nmetrics_file = "forward.prom"\n')
    again = CliRunner().invoke(run_command, ["--config", str(configured), "--quiet"])
    assert again.exit_code == 0
    assert "archiver_forward_" not in (configured.parent / "run.prom").read_text()
    failed = CliRunner().invoke(
        forward_command, ["--config", str(configured), "--quiet", "--give-up-after", "0"]
    )
    assert failed.exit_code == 1, failed.output
    found = values((configured.parent / "forward.prom").read_text())
    assert found["archiver_forward_lag_events", "siem", "http"] == 3
    assert found["archiver_forward_failing_seconds", "siem", "http"] > 0
    assert (spool / "forward" / "siem").is_dir()
    last = CliRunner().invoke(run_command, ["--config", str(configured), "--quiet"])
    assert "ignored" not in last.stdout, "the folder of cursors is no stranger in the spool"


# --- folders -----------------------------------------------------------------------------------------


def test_receivers_get_a_folder_of_each_live_destination_in_spools_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    settings = Settings(
        spools=(str(tmp_path / "a"), str(tmp_path / "not-mounted")),
        destinations={"siem": LIVE, "old": replace(OF_ARCHIVE, name="old")},
    )
    assert make_for_receivers(settings) == []
    assert [one.name for one in (tmp_path / "a" / "consumers").iterdir()] == ["siem"]
    assert not (tmp_path / "not-mounted").exists()


def test_a_folder_that_cannot_be_made_is_told_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "consumers").write_text("a file")
    (problem,) = make_for_receivers(Settings(spools=(str(tmp_path),), destinations={"siem": LIVE}))
    assert problem.startswith("destination siem: ")


def test_a_receiver_and_a_run_make_the_folders_before_anything_comes(
    configured: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(spool, "siem")
    folder.rmdir()
    assert CliRunner().invoke(run_command, ["--config", str(configured), "--quiet"]).exit_code == 0
    assert folder.is_dir()
    folder.rmdir()
    made: list[bool] = []

    def no_loop(serving: Coroutine[Any, Any, None]) -> None:
        serving.close()
        made.append(folder.is_dir())

    monkeypatch.setattr(server.uvloop, "run", no_loop)
    monkeypatch.setenv("SECRET_OF_THE_TESTS", "0123456789abcdef0123456789abcdef")
    stream = Stream("/webhook", secret_env=("SECRET_OF_THE_TESTS",))
    server.serve(replace(read_settings(configured), streams={"webhook": stream}))
    assert made == [True]
