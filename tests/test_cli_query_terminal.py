"""Named queries at a terminal: completion in each shell, drawings, empty answers."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import CompletionItem, get_completion_class

from archiver.cli import main as command_line
from archiver.query.catalog import Catalog
from tests.asking import HEAD, mine, place
from tests.calling import Archiver, archiver

__all__ = ["archiver", "mine", "place"]  # fixtures: pytest finds them here by name


def completed(monkeypatch: pytest.MonkeyPatch, shell: str, line: str) -> list[CompletionItem[Any]]:
    """Complete a line as that shell would ask for it; the last word is the one that is being written."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
    completing = get_completion_class(shell)
    assert completing is not None
    one = completing(command_line.cli, {}, "archiver", "_ARCHIVER_COMPLETE")
    found = one.get_completions(*one.get_completion_args())
    for item in found:
        assert "\x1b" not in one.format_completion(item)
    return found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("archiver query fail", {"failed_logins"}),
        ("archiver query failed-l", {"failed_logins"}),
        ("archiver queries show fail", {"failed_logins"}),
        ("archiver query --queries MINE my", {"my_actions"}),
        ("archiver queries show --queries MINE my", {"my_actions"}),
        ("archiver query failed_logins --at", {"--at-least"}),
        ("archiver query failed_logins --since 7", {"7d"}),
        ("archiver query failed_logins --format c", {"csv"}),
        ("archiver query failed_logins --dialect a", {"athena"}),
        ("archiver query my_actions --queries MINE --only", {"--only-new"}),
        ("archiver query my_actions --queries MINE --no-only", {"--no-only-new"}),
        ("archiver query nothing_like_it --at", set()),
        ("archiver query broken --queries MINE --on", set()),
        ("archiver queries sh", {"show"}),
    ],
)
def test_names_parameters_and_values_are_completed(
    archiver: Archiver,
    mine: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
    line: str,
    expected: set[str],
) -> None:
    (mine / "broken.sql").write_text("SELECT 1")
    found = completed(monkeypatch, shell, line.replace("MINE", str(mine)))
    assert {item.value for item in found} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_are_completed_with_their_titles_and_folders_as_folders(
    archiver: Archiver, mine: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    (mine / "hostile.sql").write_text(HEAD.replace("Mine", "x \x1b[31m") + "SELECT 1")
    monkeypatch.setenv("ARCHIVER_QUERIES", str(mine))
    found = {item.value: item.help for item in completed(monkeypatch, shell, "archiver query ")}
    assert found["failed_logins"] == "Failed logins"
    assert found["my_actions"] == "Mine"
    assert set(found) == {one.name for one in Catalog.of([mine])}
    assert [item.type for item in completed(monkeypatch, shell, "archiver query --queries m")] == ["dir"]
    helps = [item.help for item in completed(monkeypatch, shell, "archiver query failed_logins --at")]
    assert helps == ["leave out who failed less often from one country  [default: 5; from 1]"]


def test_completion_says_nothing_about_what_is_broken(
    archiver: Archiver, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("archiver.toml").write_text("[queries\n")
    monkeypatch.setenv("ARCHIVER_QUERIES", "nowhere")
    for line in ("archiver query fail", "archiver queries show fail"):
        assert [item.value for item in completed(monkeypatch, "bash", line)] == ["failed_logins"]
    assert capfd.readouterr() == ("", "")


# On a terminal.


def on_terminal(width: int, *words: object, **environment: str) -> str:
    """Run the command line on a terminal of its own and return all that it shows."""
    child, terminal = pty.fork()
    if child == 0:
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
            kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
            command = [sys.executable, "-m", "archiver", *map(str, words)]
            os.execve(sys.executable, command, kept | {"TERM": "xterm", "PYTHONUTF8": "1"} | environment)
        finally:
            os._exit(127)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_a_drawing_below_the_table_and_the_number_of_rows(place: Path) -> None:
    lines = on_terminal(100, "query", "failed_logins", "-a", place, "--at-least", 1).splitlines()
    assert lines[0].startswith("workspac")
    assert "failures: bars up to 7" in lines
    assert lines[-1] == "(2 rows)"
    assert [line.count("█") for line in lines[-3:-1]] == [86, 36]


@pytest.fixture
def seen(archiver: Archiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call the command line as on a terminal, and return all that it shows."""

    def call(width: int, *words: object) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((width, 24)))
        done = archiver(*words)
        assert done.code == 0, done.err
        return done.out + done.err

    return call


def test_no_color_means_ascii_and_no_draw_nothing(
    seen: Callable[..., str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("query", "failed_logins", "-a", place, "--at-least", 1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "█████" in seen(100, *ask)
    assert "bars up to" not in seen(100, *ask, "--no-draw")
    assert "bars up to" not in seen(100, *ask, "--format", "csv")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "#####" in seen(100, *ask)
    monkeypatch.setenv("ARCHIVER_DRAW", "0")
    assert "bars up to" not in seen(100, *ask)


def test_an_empty_answer_has_its_header_and_says_that_there_are_no_rows(
    archiver: Archiver, seen: Callable[..., str], place: Path
) -> None:
    ask = ("query", "failed_logins", "-a", place, "--at-least", 99)
    done = archiver(*ask)
    assert done.out.splitlines()[0].startswith("workspace_id")
    assert (len(done.out.splitlines()), done.err) == (2, "")
    assert archiver(*ask, "--json").document["rows"] == []
    for width in (40, 200):
        assert seen(width, *ask).startswith("workspace_id")
        assert seen(width, *ask).endswith("\n(0 rows)\n")
    assert seen(80, "sql", "SELECT id FROM events WHERE false", "-a", place) == "id\n──\n(0 rows)\n"


def test_draw_draws_into_a_pipe_or_a_file_as_well(archiver: Archiver, place: Path, mine: Path) -> None:
    ask = ("query", "failed_logins", "-a", place, "--at-least", 1)
    assert "bars up to" not in archiver(*ask).out
    assert "failures: bars up to 7" in archiver(*ask, "--draw").out
    assert archiver(*ask, "--draw", "--output", "x.txt").code == 0
    assert "█" in Path("x.txt").read_text()
    (mine / "plain.sql").write_text(f"{HEAD}SELECT 1 AS n")
    done = archiver("query", "plain", "--queries", mine, "-a", place, "--draw")
    assert done.code == 2
    assert "does not say what to draw" in done.err
