"""Settings by flag, by variable and by file: which one holds, and which are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from archiver.cli import main as command_line
from archiver.cli.query import WITH_VARIABLES, ParameterOption
from archiver.config import TEMPLATE
from tests.calling import Archiver, archiver, spool
from tests.support import archive_bodies, event, new_archive

__all__ = ["archiver", "spool"]  # fixtures: pytest finds them here by name


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


def test_every_option_has_a_variable_but_what_only_one_query_can_be_told() -> None:
    for path, option in _options(command_line.cli, "archiver"):
        if isinstance(option, ParameterOption) and option.parameter.name not in WITH_VARIABLES:
            continue  # an answer should not depend on what a shell remembers of another question
        names = option.envvar if isinstance(option.envvar, list) else [option.envvar]
        assert all(str(name).startswith("ARCHIVER_") for name in names), (path, option.opts)
