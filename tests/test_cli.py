"""The command line as its users and their scripts see it: exit codes, streams, and which archive is meant."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from archiver.cli.main import _VERBS
from archiver.sources.spool import REMEMBERED
from archiver.store.local import LocalStore
from tests.calling import Archiver, Done, archiver, place, spool
from tests.support import event, ids_of

__all__ = ["archiver", "place", "spool"]  # fixtures: pytest finds them here by name

READING = {
    "status": [],
    "sql": ["SELECT count(*) AS n FROM events"],
    "explain": ["e1"],
    "quarantine list": [],
    "quarantine show": ["1:3"],
    "quarantine requeue": ["--all", "--dry-run"],
    "verify": [],
    "collect": ["--dry-run"],
    "publish delta": [],
}


def _run(archiver: Archiver, spool: Path, archive: Path, *options: object) -> Done:
    return archiver("run", "--spool", spool, "--archive", archive, "--settle", 0, *options)


def _words(verb: str) -> list[str]:
    return [*verb.split(), *READING[verb]]


# Exit codes


def test_a_run_that_archives_everything_ends_with_0(archiver: Archiver, spool: Path, tmp_path: Path) -> None:
    assert _run(archiver, spool, tmp_path / "new").code == 0
    again = _run(archiver, spool, tmp_path / "new")
    assert (again.code, again.out.splitlines()[0]) == (0, "nothing new in the spool")


def test_a_run_that_rejects_something_ends_with_3_and_its_counts_add_up(
    archiver: Archiver, spool: Path, tmp_path: Path
) -> None:
    (spool / "b.jsonl").write_bytes(b"rubbish\n" + event("s1"))
    done = _run(archiver, spool, tmp_path / "new", "--json")
    assert done.code == 3
    counts = {
        key: done.document[key] for key in ("read", "archived", "supplements", "duplicates", "quarantined")
    }
    assert counts == {"read": 4, "archived": 2, "supplements": 0, "duplicates": 1, "quarantined": 1}


def test_what_cannot_be_written_ends_with_1(archiver: Archiver, spool: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = _run(archiver, spool, tmp_path / "file" / "a")
    assert done.code == 1
    assert str(tmp_path / "file" / "a") in done.err
    assert (spool / "a.jsonl").exists() or list(spool.rglob("*a.jsonl"))


@pytest.mark.parametrize("verb", READING)
def test_a_place_without_an_archive_ends_with_10(archiver: Archiver, tmp_path: Path, verb: str) -> None:
    done = archiver(*_words(verb), "--archive", tmp_path / "nothing")
    assert (done.code, done.out) == (10, "")
    assert "hint: check the location" in done.err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("verb", READING)
def test_no_archive_named_ends_with_2_and_says_how_to_name_one(archiver: Archiver, verb: str) -> None:
    done = archiver(*_words(verb))
    assert (done.code, done.out) == (2, "")
    assert "ARCHIVER_ARCHIVE" in done.err


@pytest.mark.parametrize("verb", [*_VERBS, "quarantine list", "quarantine show", "quarantine requeue"])
def test_an_unknown_option_ends_with_2_and_help_with_0(archiver: Archiver, verb: str) -> None:
    done = archiver(*verb.split(), "--nonsense", "--json")
    assert done.code == 2
    assert (done.document["message_type"], done.document["code"]) == ("exit_error", 2)
    told = archiver(*verb.split(), "--help")
    assert told.code == 0
    assert "Exit codes" in told.out


def test_damage_ends_with_20_and_is_named(archiver: Archiver, place: Path) -> None:
    (file,) = place.rglob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    done = archiver("verify", "--archive", place)
    assert done.code == 20
    assert f"altered: {file.relative_to(place)}" in done.out
    document = archiver("verify", "--archive", place, "--json").document
    assert (document["intact"], document["words"]) == (False, {"altered": 1})


def test_a_broken_chain_ends_with_20_for_every_reader(archiver: Archiver, place: Path) -> None:
    commit = place / "_ledger" / f"{0:020}.json"
    commit.write_bytes(commit.read_bytes().replace(b'"compression_level":1', b'"compression_level":2'))
    for verb in ("status", "sql", "explain", "verify"):
        done = archiver(*_words(verb), "--archive", place)
        assert done.code == 20, verb


def test_sigint_ends_a_real_run_with_130_and_nothing_is_lost(
    archiver: Archiver, spool: Path, tmp_path: Path
) -> None:
    for number in range(40):
        lines = [event(f"many-{number}-{n}", note="x" * 300) for n in range(1000)]
        (spool / f"{number}.jsonl").write_bytes(b"\n".join(lines))
    # A suite in the background of a script has SIGINT ignored, and its children inherit that.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "archiver"]
    command += ["run", "--settle", "0", "--workers", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--spool", str(spool), "--archive", str(tmp_path / "new")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(spool.glob("claims/*/batch.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert json.loads(out)["kind"] == "interrupted"
    assert "Traceback" not in err
    assert _run(archiver, spool, tmp_path / "new").code == 0
    assert len(ids_of(new_or_open(tmp_path / "new"))) == 40 * 1000 + 2


def new_or_open(folder: Path) -> Any:
    from archiver.archive import open_archive  # noqa: PLC0415

    return open_archive(LocalStore(folder))


# --json


@pytest.mark.parametrize("verb", READING)
def test_json_is_one_document_on_stdout_and_nothing_else(archiver: Archiver, place: Path, verb: str) -> None:
    done = archiver(*_words(verb), "--archive", place, "--json")
    assert done.code == 0, done
    assert done.document["message_type"] != "exit_error"
    assert done.err == ""


def test_json_of_the_verbs_that_make_something(archiver: Archiver, place: Path, tmp_path: Path) -> None:
    made = archiver("init", "--archive", tmp_path / "b", "--no-file", "--json")
    assert made.document["message_type"] == "archive_created"
    generated = archiver("generate", "--events", 50, "--out", tmp_path / "g", "--json")
    assert generated.document["message_type"] == "generated"
    ran = _run(archiver, tmp_path / "g", tmp_path / "b", "--json")
    assert ran.document["message_type"] == "run_report"
    exported = archiver("export", "--archive", tmp_path / "b", "--output", tmp_path / "out.jsonl", "--json")
    assert exported.document["bodies"] == len((tmp_path / "out.jsonl").read_bytes().splitlines())
    assert archiver("doctor", "--archive", place, "--json").document["message_type"] == "doctor_report"
    assert archiver("collect", "--archive", place, "--json").document["message_type"] == "collect_report"


@pytest.mark.parametrize("verb", READING)
def test_json_errors_are_one_document_on_stdout_too(archiver: Archiver, tmp_path: Path, verb: str) -> None:
    done = archiver(*_words(verb), "--archive", tmp_path / "nothing", "--json")
    document = done.document
    assert (document["message_type"], document["kind"]) == ("exit_error", "archive_not_found")
    assert document["code"] == done.code == 10


def test_json_by_variable_holds_for_errors_too(
    archiver: Archiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARCHIVER_JSON", "1")
    assert archiver("status", "--archive", tmp_path / "nothing").document["code"] == 10
    assert archiver("status", "--bogus").document["kind"] == "usage"


def test_logs_and_errors_go_to_stderr_alone(archiver: Archiver, spool: Path, tmp_path: Path) -> None:
    done = _run(archiver, spool, tmp_path / "new", "--json", "--log-format", "json")
    assert done.document["commits"] == [1]
    records = [json.loads(line) for line in done.err.splitlines()]
    assert [record["commit"] for record in records if record["message"] == "committed"] == [1]


def test_the_report_is_written_whole_and_a_bad_place_is_an_error(
    archiver: Archiver, spool: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    _run(archiver, spool, tmp_path / "new", "--report", report)
    assert json.loads(report.read_bytes())["archived"] == 2
    done = _run(archiver, spool, tmp_path / "new", "--report", tmp_path / "none" / "r.json", "--json")
    assert (done.code, done.document["message_type"]) == (2, "exit_error")


# Which archive


def test_a_spool_whose_archive_is_gone_ends_with_10_and_nothing_is_created(
    archiver: Archiver, spool: Path, tmp_path: Path
) -> None:
    assert _run(archiver, spool, tmp_path / "disk" / "a").code == 0
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    (tmp_path / "disk").mkdir()
    (spool / "b.jsonl").write_bytes(event("s3"))
    done = _run(archiver, spool, tmp_path / "disk" / "a")
    assert done.code == 10
    assert "nothing was created" in done.err
    assert list((tmp_path / "disk").iterdir()) == []
    assert (spool / "b.jsonl").exists()


def test_the_spool_of_another_archive_ends_with_2_and_stays_as_it_is(
    archiver: Archiver, spool: Path, place: Path, tmp_path: Path
) -> None:
    assert _run(archiver, spool, tmp_path / "first").code == 0
    (spool / "b.jsonl").write_bytes(event("s3"))
    done = _run(archiver, spool, place)
    assert done.code == 2
    assert str(tmp_path / "first") in done.err
    assert (spool / "b.jsonl").exists()
    assert ids_of(new_or_open(place)) == ["e1", "e2", "e3"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"archive_id":7}', b"\xff"])
def test_a_damaged_note_of_the_archive_is_an_error_and_no_new_archive(
    archiver: Archiver, spool: Path, tmp_path: Path, content: bytes
) -> None:
    (spool / REMEMBERED).write_bytes(content)
    done = _run(archiver, spool, tmp_path / "new")
    assert done.code == 1
    assert REMEMBERED in done.err
    assert not (tmp_path / "new").exists()


def test_a_note_without_a_location_still_names_its_archive(
    archiver: Archiver, spool: Path, place: Path, tmp_path: Path
) -> None:
    (spool / REMEMBERED).write_text('{"archive_id":"another"}')
    assert _run(archiver, spool, tmp_path / "new").code == 10
    done = _run(archiver, spool, place)
    assert done.code == 2
    assert "another" in done.err


def test_a_spool_that_is_not_there_ends_with_2(archiver: Archiver, tmp_path: Path) -> None:
    assert _run(archiver, tmp_path / "none", tmp_path / "new").code == 2
    assert archiver("run", "--archive", tmp_path / "new").code == 2
    assert not (tmp_path / "new").exists()


def test_init_refuses_a_store_that_does_not_create_atomically(
    archiver: Archiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(self: LocalStore, key: str, content: bytes) -> None:
        self.put(key, content, mode="overwrite")

    monkeypatch.setattr(LocalStore, "put_once", overwrite)
    done = archiver("init", "--archive", tmp_path / "new", "--no-file")
    assert done.code == 2
    assert "atomically" in done.err
    assert not list((tmp_path / "new").rglob("*.json"))


def test_init_twice_ends_with_2_and_changes_nothing(archiver: Archiver, place: Path) -> None:
    before = sorted(place.rglob("*"))
    assert archiver("init", "--archive", place, "--no-file").code == 2
    assert sorted(place.rglob("*")) == before


def test_of_several_inits_at_once_one_creates_the_archive(tmp_path: Path) -> None:
    from archiver.archive import init_archive  # noqa: PLC0415
    from archiver.errors import ArchiverError  # noqa: PLC0415

    outcomes: list[str] = []
    gate = threading.Barrier(6)

    def create() -> None:
        gate.wait()
        try:
            outcomes.append(init_archive(LocalStore(tmp_path / "a"), rounds=0).id)
        except ArchiverError as error:
            outcomes.append(error.kind)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1:] == ["config"] * 5 or outcomes.count("config") == 5
    assert new_or_open(tmp_path / "a").id in outcomes


def test_first_runs_at_once_share_one_archive(tmp_path: Path, spool: Path) -> None:
    command = [sys.executable, "-m", "archiver", "run", "--spool", str(spool), "--settle", "0"]
    runs = [
        subprocess.Popen([*command, "--archive", str(tmp_path / "a")], stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0]
    assert ids_of(new_or_open(tmp_path / "a")) == ["s1", "s2"]
