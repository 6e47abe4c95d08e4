"""The command line as its users and their scripts see it: exit codes, streams, settings, hostile text."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from archiver.cli import main as command_line
from archiver.cli.main import _VERBS
from archiver.cli.target import open_target
from archiver.config import TEMPLATE
from archiver.sources.spool import REMEMBERED
from archiver.store.local import LocalStore
from tests.support import archive_bodies, event, ids_of, new_archive

HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]markup[/bold] \u202etxt.exe \u2066 \x9b2J \x00 \r\n\t end"
# Of what HOSTILE holds, all that a terminal might obey.
DANGEROUS = "\x1b\x07\u202e\u2066\x9b\x00\r"

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


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        tree = json.loads(self.out)
        assert isinstance(tree["message_type"], str)
        return tree


Archiver = Callable[..., Done]


@pytest.fixture
def archiver(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Archiver]:
    """Call the command line in this process, in an empty folder, without anybody's settings."""
    for name in [name for name in os.environ if name.startswith("ARCHIVER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    logger = logging.getLogger("archiver")
    before = (logger.handlers, logger.propagate, logger.level)

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["archiver", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, out, err)

    yield call
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An archive of three events and a rejection."""
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("e1"), event("e2"), event("e3"), b"rubbish")
    return tmp_path / "a"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool with two events."""
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(event("s1") + b"\n" + event("s2") + b"\n")
    return folder


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
        lines = [event(f"many-{number}-{n}", note="x" * 300) for n in range(500)]
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
    assert len(ids_of(new_or_open(tmp_path / "new"))) == 40 * 500 + 2


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


# Settings


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(
    archiver: Archiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("by-flag", "by-variable", "by-file"):
        archive_bodies(new_archive(tmp_path / name), event("e1"))
    Path("archiver.toml").write_text(f'[archive]\nlocation = "{tmp_path / "by-file"}"\n')

    def location(*words: object) -> str:
        return Path(archiver("status", "--json", *words).document["location"]).name

    assert location() == "by-file"
    monkeypatch.setenv("ARCHIVER_ARCHIVE", str(tmp_path / "by-variable"))
    assert location() == "by-variable"
    assert location("--archive", tmp_path / "by-flag") == "by-flag"


def test_settle_is_60_seconds_by_default_and_by_file_variable_and_flag_what_they_say(
    archiver: Archiver, monkeypatch: pytest.MonkeyPatch, spool: Path, tmp_path: Path
) -> None:
    words = ("run", "--spool", spool, "--archive", tmp_path / "new", "--json")
    assert archiver(*words).document["read"] == 0  # the file is a moment old
    Path("archiver.toml").write_text("[spool]\nsettle_seconds = 0\n")
    monkeypatch.setenv("ARCHIVER_SETTLE", "60")
    assert archiver(*words).document["read"] == 0
    assert archiver(*words, "--settle", 0).document["read"] == 2


def test_paths_in_the_file_are_relative_to_it(archiver: Archiver, tmp_path: Path, spool: Path) -> None:
    config = tmp_path / "archiver.toml"
    config.write_text('[archive]\nlocation = "a"\n[spool]\nfolders = ["spool"]\nsettle_seconds = 0\n')
    assert archiver("run", "--config", config).code == 0
    assert (tmp_path / "a" / "_ledger").is_dir()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[archvie]\n", "archive"),
        ('[archive]\nlocaton = "x"\n', "did you mean location"),
        ("[archive]\nlocation = 7\n", "wrong type"),
        ("[spool]\nsettle_seconds = -1\n", "negative"),
        ('[spool]\ndone = "burn"\n', "burn"),
        ("[run]\nworkers = true\n", "wrong type"),
        ('[streams.s]\nworkspaces = "w"\n', "workspaces"),
        ('[archive]\nsecret_key = "x"\n', "means nothing"),
        ("[archive\n", "archiver.toml"),
    ],
)
def test_a_configuration_that_means_nothing_ends_with_2_and_names_it(
    archiver: Archiver, text: str, told: str
) -> None:
    Path("archiver.toml").write_text(text)
    done = archiver("status")
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_named_file_that_is_not_there_ends_with_2(archiver: Archiver) -> None:
    assert archiver("status", "--config", "none.toml").code == 2


def test_the_commented_file_that_init_writes_is_valid_and_is_used(archiver: Archiver, tmp_path: Path) -> None:
    done = archiver("init", "--archive", tmp_path / 'a "quoted" place', "--spool", tmp_path / "s")
    assert done.code == 0, done.err
    (tmp_path / "s").mkdir()
    assert archiver("status", "--json").document["head"] == 0
    assert archiver("init", "--archive", tmp_path / "b").code == 0  # an existing file is left alone
    assert 'a \\"quoted\\" place' in Path("archiver.toml").read_text()


def test_every_commented_key_of_the_file_is_one_that_is_known(archiver: Archiver, tmp_path: Path) -> None:
    text = TEMPLATE.format(location='"a"', spools='"s"')
    live = "\n".join(
        line.removeprefix("# ") if "=" in line or "[" in line else line for line in text.splitlines()
    )
    lines = [line for line in live.splitlines() if not line.startswith(("archiver's", "Credentials", "(AWS"))]
    config = tmp_path / "all.toml"
    config.write_text("\n".join(lines))
    tomllib.loads(config.read_text())
    (tmp_path / "s").mkdir()
    assert archiver("status", "--config", config).code in (2, 10)
    assert "means nothing" not in archiver("status", "--config", config).err


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


# What other people's text may do


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


def _options(command: click.Command, path: str) -> Iterator[tuple[str, click.Option]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _options(inner, f"{path} {name}")
        return
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("help", "version"):
            yield path, parameter


def test_every_option_has_a_variable() -> None:
    for path, option in _options(command_line.cli, "archiver"):
        names = option.envvar if isinstance(option.envvar, list) else [option.envvar]
        assert all(str(name).startswith("ARCHIVER_") for name in names), (path, option.opts)
