"""What each run leaves for whoever watches: a file of metrics, however it ended, and a URL that is asked."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from archiver import clock, exposition
from archiver.activity import Activity, record
from archiver.block import REASONS
from archiver.config import Settings
from archiver.errors import ArchiverError
from archiver.exposition import Ended, Left, families
from archiver.ping import FAILURE_URL_VARIABLE, URL_VARIABLE, check_pings, ping
from archiver.pipeline import RunReport
from archiver.silence import Hearing
from archiver.sources.waiting import SpoolWaiting, Waiting
from tests.services.pinged import DRIPS, switch
from tests.support import event
from tests.test_receiver_metrics import documented

SUCCESS = "archiver_run_last_success_timestamp_seconds"
TOKEN = "3f1c-a-secret-token"


class Place:
    """A spool, an archive's location and a metrics file, for real runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool, self.archive, self.file = folder / "spool", folder / "archive", folder / "archiver.prom"
        self.spool.mkdir()

    def run(self, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
        command = [sys.executable, "-m", "archiver", "run", "--settle", "0", "--workers", "0"]
        command += ["--archive", str(self.archive), *map(str, words)]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=clean | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run_measured(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("--spool", self.spool, "--metrics-file", self.file, **variables)

    def deliver(self, *bodies: bytes, name: str = "one.jsonl") -> None:
        (self.spool / name).write_bytes(b"".join(body + b"\n" for body in bodies))

    @property
    def metrics(self) -> dict[tuple[str, ...], float]:
        return parsed(self.file.read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def parsed(text: str) -> dict[tuple[str, ...], float]:
    """Parse a text as both formats, which must agree; return values by name and labels' values."""
    found: list[dict[tuple[str, ...], float]] = []
    for parser in (plain, openmetrics):
        samples = [sample for family in parser(text) for sample in family.samples]
        found.append({(one.name, *one.labels.values()): one.value for one in samples})
        assert len(found[-1]) == len(samples)
        assert all(one.timestamp is None for one in samples)
    assert found[0] == found[1]
    return found[0]


def test_a_consumer_that_cannot_be_read_is_not_said_to_be_done() -> None:
    left = Left({"s": SpoolWaiting(consumers={"c": Waiting(is_complete=False), "d": Waiting()})}, [])
    found = {one.name: one.samples for one in families(Ended(RunReport(), 0, 0, 1), left, 1.0)}
    assert found["archiver_run_consumer_backlog_files"] == [({"spool": "s", "consumer": "d"}, 0.0)]


def test_the_document_lists_every_metric_of_a_run_and_no_other() -> None:
    left = Left({"s": SpoolWaiting(consumers={"c": Waiting()})}, [Hearing("x", True, 1, 1, 1.0, 1.0)])
    left.databases = {"d": 1.0}
    report = RunReport(head=1, databases={"d": {"went_well": True, "read": 1, "rows": 1, "seconds": 1.0}})
    found = {}
    for family in families(Ended(report, 0, 0, 1), left, 1.0):
        assert family.samples, family.name
        found[family.name] = (
            "gauge",
            sorted({name for told, _ in family.samples for name in told}),
            family.told,
        )
    told = {name: (kind, sorted(labels), text) for name, (kind, labels, text) in documented("A run").items()}
    assert told == found


def test_a_run_leaves_its_counts_for_both_parsers(place: Place) -> None:
    place.deliver(event("a"), event("b"), event("a"), b"{", b"[1")
    (place.spool / "late.jsonl.gz.part").write_bytes(b"not a delivery")
    before = time.time()
    assert place.run_measured().returncode == 3
    found = place.metrics
    assert found["archiver_run_read",] == 5
    assert found["archiver_run_events", "archived"] == 2
    assert found["archiver_run_events", "duplicate"] == 1
    assert found["archiver_run_events", "supplement"] == 0
    assert found["archiver_run_events", "quarantined"] == 2
    assert found["archiver_run_quarantined", "not_json"] == 2
    assert {key[1] for key in found if key[0] == "archiver_run_quarantined"} == set(REASONS)
    assert found["archiver_run_exit_code",] == 3
    assert found["archiver_run_head_sequence",] == 1
    assert found["archiver_run_commits",] == found["archiver_run_files",] == 1
    assert found["archiver_run_read_bytes",] > 0
    assert found["archiver_run_written_bytes",] > 0
    assert found["archiver_run_problems",] == 0
    assert before <= found["archiver_run_timestamp_seconds",] == found[SUCCESS,] <= time.time()
    assert 0 < found["archiver_run_duration_seconds",] < 120
    assert found["archiver_run_backlog_files", str(place.spool)] == 0
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o644
    assert sorted(path.name for path in place.folder.iterdir()) == ["archive", "archiver.prom", "spool"]


def test_a_run_that_fails_keeps_when_one_last_went_well(place: Place) -> None:
    assert place.run_measured().returncode == 0
    well = place.metrics
    place.archive.rename(place.folder / "elsewhere")
    place.deliver(event("a"))
    failed = place.run_measured()
    assert failed.returncode == 10, failed.stderr
    found = place.metrics
    assert found["archiver_run_exit_code",] == 10
    assert found[SUCCESS,] == well[SUCCESS,]
    assert found["archiver_run_timestamp_seconds",] > well["archiver_run_timestamp_seconds",]
    assert found["archiver_run_backlog_files", str(place.spool)] == 1
    assert found["archiver_run_backlog_oldest_seconds", str(place.spool)] > 0
    assert ("archiver_run_head_sequence",) not in found


def test_a_run_without_a_spool_is_told_as_failed_with_2(place: Place) -> None:
    assert place.run("--metrics-file", place.file).returncode == 2
    assert place.metrics["archiver_run_exit_code",] == 2
    assert (SUCCESS,) not in place.metrics


@pytest.mark.parametrize(
    "before", ["", f"{SUCCESS} nan\n", f"{SUCCESS} 1e999\n", "\x00\xff", f"x{SUCCESS} 5\n"]
)
def test_a_file_of_something_else_tells_of_no_success(tmp_path: Path, before: str) -> None:
    file = tmp_path / "archiver.prom"
    file.write_text(before, encoding="latin-1")
    exposition.write_run_metrics(file, Ended(RunReport(), 1, 0, 1), Settings())
    assert (SUCCESS,) not in parsed(file.read_text())


def test_metrics_that_cannot_be_written_fail_the_run_but_not_the_archive(place: Place) -> None:
    place.deliver(event("a"))
    place.file.mkdir()
    done = place.run_measured()
    assert done.returncode == 2  # click: a folder is no file
    place.file.rmdir()
    done = place.run("--spool", place.spool, "--metrics-file", place.folder / "nowhere" / "x.prom")
    assert done.returncode == 1
    assert "the metrics cannot be written" in done.stderr
    assert list(place.spool.glob("*.jsonl")) == []
    assert place.run_measured().returncode == 0
    assert place.metrics["archiver_run_head_sequence",] == 1


@pytest.mark.parametrize("leads_to", [None, "pipe", "/proc/self/fd/1"])
def test_no_file_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path, leads_to: str | None) -> None:
    """A run as root with `--metrics-file /dev/null` would take it from everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    named = pipe
    if leads_to is not None:
        named = tmp_path / "link"
        named.symlink_to(leads_to)
    with pytest.raises(ArchiverError, match="it is a device or a pipe"):
        exposition.write_run_metrics(named, Ended(RunReport(), 1, 0, 1), Settings())
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert named.is_symlink() == (leads_to is not None)
    assert not list(tmp_path.glob(".*"))


def test_streams_and_consumers_are_told_as_the_configuration_has_them(place: Place) -> None:
    now = clock.now_us()
    record(place.spool, Activity("production", now - 10**9, now - 7_200_000_000))
    record(place.spool, Activity("forged", now, now))
    consumer = place.spool / "consumers" / "siem"
    consumer.mkdir(parents=True)
    (consumer / f"{1:016x}-{2:016x}.seg").write_bytes(b"x" * 10)
    (place.folder / "archiver.toml").write_text(
        f'[spool]\nfolders = ["{place.spool}"]\n[run]\nmetrics_file = "archiver.prom"\n'
        "[streams.production]\nsilent_after_seconds = 3600\n[streams.eu]\n"
    )
    assert place.run().returncode == 0
    found = place.metrics
    assert 7_200 <= found["archiver_run_stream_silent_seconds", "production"] < 7_320
    assert found["archiver_run_stream_silent_after_seconds", "production"] == 3600
    assert {key[1] for key in found if "stream" in key[0]} == {"production"}
    assert found["archiver_run_consumer_backlog_bytes", str(place.spool), "siem"] == 10


def test_any_folders_name_makes_a_text_that_can_be_parsed(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" \\ c\nd \udcff'
    folder.mkdir()
    file = tmp_path / "archiver.prom"
    exposition.write_run_metrics(file, Ended(RunReport(), 0, 0, 1), Settings(spools=(str(folder),)))
    (name,) = [key[1] for key in parsed(file.read_text()) if key[0] == "archiver_run_backlog_files"]
    assert name == f'{tmp_path}/a "b" \\ c%0Ad %FF'


# --- pings -----------------------------------------------------------------------------------------


def asked(code: int, *, timeout_seconds: float = 10.0, **environment: str) -> str | None:
    return ping(code, environment, timeout_seconds=timeout_seconds, pause_seconds=0.01)


@pytest.mark.parametrize("code", [0, 3])
def test_the_url_is_asked_once_after_a_run_that_went_well(code: int) -> None:
    with switch() as found:
        urls = {URL_VARIABLE: f"{found.base}/{TOKEN}?a=b", FAILURE_URL_VARIABLE: f"{found.base}/failed"}
        assert asked(code, **urls) is None
    assert found.asked == [f"/{TOKEN}?a=b"]
    assert found.agents[0].startswith("archiver/")


@pytest.mark.parametrize("code", [1, 2, 10, 11, 12, 20])
def test_after_a_run_that_failed_only_the_other_url_is_asked(code: int) -> None:
    with switch() as found:
        assert asked(code, **{URL_VARIABLE: f"{found.base}/{TOKEN}"}) is None
        assert found.asked == []
        assert asked(code, **{FAILURE_URL_VARIABLE: f"{found.base}/failed"}) is None
    assert found.asked == ["/failed"]


def test_an_interruption_asks_nobody() -> None:
    with switch() as found:
        urls = {URL_VARIABLE: f"{found.base}/a", FAILURE_URL_VARIABLE: f"{found.base}/b"}
        assert asked(130, **urls) is None
    assert found.asked == []


def test_two_failures_are_tried_again_and_a_third_is_told() -> None:
    with switch(500, 503, 200) as found:
        assert asked(0, **{URL_VARIABLE: f"{found.base}/{TOKEN}"}) is None
    assert len(found.asked) == 3
    with switch(500) as found:
        problem = asked(0, **{URL_VARIABLE: f"{found.base}/{TOKEN}"})
        assert problem == f"ping {found.base}: answered 500"
    assert len(found.asked) == 3


def test_what_will_not_change_is_not_tried_again() -> None:
    with switch(404) as found:
        assert asked(0, **{URL_VARIABLE: f"{found.base}/{TOKEN}"}) == f"ping {found.base}: answered 404"
    assert len(found.asked) == 1


def test_a_redirection_is_not_followed() -> None:
    with switch() as other, switch(302, headers=(("Location", f"{other.base}/elsewhere"),)) as found:
        assert "answered 302" in str(asked(0, **{URL_VARIABLE: f"{found.base}/{TOKEN}"}))
    assert other.asked == []


def test_an_answer_that_never_ends_is_waited_for_so_long_and_no_longer() -> None:
    with switch(DRIPS) as found:
        began = time.monotonic()
        problem = asked(0, timeout_seconds=0.2, **{URL_VARIABLE: f"{found.base}/{TOKEN}"})
        assert problem == f"ping {found.base}: no answer within 0.2 s"
        assert time.monotonic() - began < 20
    assert len(found.asked) == 3


@pytest.mark.parametrize(
    "url",
    [
        f"http://example.com/{TOKEN}",
        f"ftp://example.com/{TOKEN}",
        f"example.com/{TOKEN}",
        f"https:///{TOKEN}",
        f"https://user:{TOKEN}@example.com/",
        f"https://example.com/{TOKEN} b",
        f"https://example.com/{TOKEN}\nhttps://example.com/",
        f"https://[::1/{TOKEN}",
        f"https://example.com/{TOKEN}é",
        f"https://example.com/{TOKEN}" + "x" * 5000,
        f"http://127.0.0.1.example.com/{TOKEN}",
    ],
)
def test_a_url_that_may_not_be_asked_is_told_without_showing_it(url: str) -> None:
    problem = ping(0, {URL_VARIABLE: url})
    assert problem is not None
    assert URL_VARIABLE in problem
    assert TOKEN not in problem
    assert [
        wrong is not None and TOKEN not in wrong for _, wrong in check_pings({URL_VARIABLE: url}, None, None)
    ] == [True]


def test_a_file_holds_the_url_and_the_variable_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "url"
    with switch() as found:
        file.write_text(f"{found.base}/{TOKEN}\n")
        assert ping(0, {}, str(file)) is None
        assert ping(0, {URL_VARIABLE: f"{found.base}/variable"}, str(file)) is None
        assert ping(1, {}, str(file), str(file)) is None
    assert found.asked == [f"/{TOKEN}", "/variable", f"/{TOKEN}"]
    file.write_text("")
    assert ping(0, {}, str(file)) == f"{file}: holds no URL"
    assert "cannot be read" in str(ping(0, {}, str(tmp_path / "nowhere")))


def test_no_log_shows_the_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with switch(200, headers=(("X-Broken\n no header", "x"),)) as found:
        asked(0, **{URL_VARIABLE: f"{found.base}/{TOKEN}"})
        asked(0, **{URL_VARIABLE: f"http://127.0.0.1:1/{TOKEN}"})
    assert found.asked
    assert TOKEN not in caplog.text


def test_a_run_asks_and_a_ping_that_fails_changes_no_exit_code(place: Place) -> None:
    place.deliver(event("a"))
    with switch(404) as found:
        done = place.run_measured(**{URL_VARIABLE: f"{found.base}/{TOKEN}", "ARCHIVER_LOG_FORMAT": "json"})
    assert done.returncode == 0
    assert found.asked == [f"/{TOKEN}"]
    warning = next(tree for tree in map(json.loads, done.stderr.splitlines()) if tree["level"] == "warning")
    assert warning["message"] == f"ping {found.base}: answered 404"
    assert TOKEN not in done.stdout + done.stderr + place.file.read_text()


def test_a_run_that_failed_asks_the_other_url(place: Place) -> None:
    with switch() as found:
        urls: dict[str, Any] = {
            URL_VARIABLE: f"{found.base}/{TOKEN}",
            FAILURE_URL_VARIABLE: f"{found.base}/failed",
        }
        assert place.run("--spool", place.folder / "nowhere", **urls).returncode == 2
    assert found.asked == ["/failed"]
