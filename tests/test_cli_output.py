"""What the command line puts out: other people's text on a terminal, colours, pipes, files, reports."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.cli import main as command_line
from archiver.cli.target import open_target
from archiver.errors import ConfigError
from archiver.store.local import LocalStore
from tests.calling import Archiver, archiver, place
from tests.support import archive_bodies, event, new_archive

__all__ = ["archiver", "place"]  # fixtures: pytest finds them here by name

HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]markup[/bold] \u202etxt.exe \u2066 \x9b2J \x00 \r\n\t end"
# Of what HOSTILE holds, all that a terminal might obey.
DANGEROUS = "\x1b\x07\u202e\u2066\x9b\x00\r"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An archive whose texts are meant for terminals, and a rejection that is."""
    archive = new_archive(tmp_path / "hostile")
    bodies = [
        event("e1", workspace=HOSTILE, actor_name=HOSTILE, action=HOSTILE),
        event(HOSTILE, workspace="\ud800", actor_name="\ud800"),
        event("e1", workspace=HOSTILE, actor_name="other", action="other"),
        HOSTILE.encode(),
        event("e2", workspace=HOSTILE, version=HOSTILE),
    ]
    report = archive_bodies(archive, *bodies)
    assert report.counts.archived >= 1
    return tmp_path / "hostile"


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["explain", "e1"],
        ["explain", HOSTILE.replace("\x00", "")],
        ["quarantine", "list"],
        ["quarantine", "show", "1:2"],
        ["quarantine", "show", "1:3"],
        ["quarantine", "show", "1:4"],
        ["verify"],
        ["sql", "SELECT id, workspace_id, actor_name, action FROM events"],
    ],
    ids=lambda words: " ".join(words)[:18].encode("unicode_escape").decode(),
)
def test_text_of_events_never_reaches_the_terminal_raw(
    archiver: Archiver, hostile: Path, words: list[str], json_flag: list[str]
) -> None:
    done = archiver(*words, "--archive", hostile, *json_flag)
    assert done.code in (0, 1, 20), done
    said = done.out + done.err
    assert [char for char in DANGEROUS if char in said] == []
    if json_flag:
        assert done.document
    if words[:2] == ["explain", "e1"]:
        assert "[bold]markup[/bold]" in said  # shown as it is, and no markup of ours


def test_an_error_about_hostile_text_is_shown_and_not_sent(archiver: Archiver, place: Path) -> None:
    done = archiver("explain", HOSTILE.replace("\x00", ""), "--archive", place)
    assert done.code == 1
    assert [char for char in DANGEROUS if char in done.err + done.out] == []


def test_no_colour_where_stderr_is_no_terminal(archiver: Archiver, tmp_path: Path) -> None:
    done = archiver("status", "--archive", tmp_path / "nothing")
    assert "\x1b" not in done.err


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_is_obeyed_on_a_terminal(tmp_path: Path, no_color: bool) -> None:
    master, slave = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    if no_color:
        environment["NO_COLOR"] = "1"
    command = [sys.executable, "-m", "archiver", "status", "--archive", str(tmp_path / "nothing")]
    done = subprocess.run(command, stderr=slave, stdout=subprocess.PIPE, env=environment, check=False)
    os.close(slave)
    said = os.read(master, 65536)
    os.close(master)
    assert (done.returncode, done.stdout) == (10, b"")
    assert (b"\x1b[" in said) is not no_color


def test_the_reader_of_a_pipe_may_leave(place: Path) -> None:
    command = f"{sys.executable} -m archiver export --archive {place} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_an_output_inside_the_archive_is_refused(place: Path) -> None:
    from archiver.errors import ConfigError  # noqa: PLC0415

    with pytest.raises(ConfigError), open_target(str(place / "x.csv"), LocalStore(place)):
        raise AssertionError("it was opened")


def test_what_was_committed_before_an_error_stands_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two spools: the second one meets a store that fails."""
    from click.testing import CliRunner  # noqa: PLC0415

    from archiver import runs  # noqa: PLC0415
    from archiver.errors import StoreError  # noqa: PLC0415

    spools = [tmp_path / "one", tmp_path / "two"]
    for number, spool in enumerate(spools):
        spool.mkdir()
        (spool / "a.jsonl").write_bytes(event(f"e{number}"))
    original = runs.run

    def run(archive, source, **rest):  # type: ignore[no-untyped-def]
        if source.name == "spool-2":
            raise StoreError("the disk is full")
        return original(archive, source, **rest)

    monkeypatch.setattr(runs, "run", run)
    report = tmp_path / "report.json"
    words = ["run", "--archive", str(tmp_path / "archive"), "--settle", "0", "--report", str(report)]
    words += [f"--spool={spool}" for spool in spools]
    result = CliRunner().invoke(command_line.cli, words)
    assert isinstance(result.exception, StoreError)
    told = json.loads(report.read_text())
    assert (told["archived"], told["commits"], told["problems"]) == (1, [1], ["the disk is full"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_full_disk_behind_stdout_is_said_in_one_line(place: Path, form: str) -> None:
    words = ["sql", "SELECT id FROM events", "--format", form, "-a", str(place)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from archiver.cli.main import main; main()", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "error: stdout: cannot be written: No space left on device\n",
    )


def test_a_full_disk_names_the_output_and_leaves_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "answer.csv"
    output.write_text("before")
    target = open_target(str(output), LocalStore(tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"answer\.csv: cannot be written: No space left"), target:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["answer.csv"]
    assert output.read_text() == "before"
