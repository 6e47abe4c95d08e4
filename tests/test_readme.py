"""The README's sessions are run, and what they show is what comes out.

What differs from run to run (digests, names, times, rates) is left out of the
comparison; counts, words and exit codes are not.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.services.process import free_ports

ROOT = Path(__file__).resolve().parent.parent

# In this order: a part of an attempt's name looks like another thing.
CHANGING = (
    (r"\s+", " "),
    (r"[0-9a-f]{32}-[0-9a-f]{28}-[0-9]+", "FILE"),
    (r"[0-9a-f]{16}-[0-9a-f]{16}\.seg", "SEGMENT"),
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"\b[0-9a-f]{32}\b", "BATCH"),
    (r"commit ([0-9]+) of [0-9T:.-]+Z", r"commit \1 of TIME"),
    (r"received [0-9T:.-]+Z", "received TIME"),
    (r"[0-9]+\.[0-9] s\b", "SECONDS"),
    (r"[0-9,]+ events/s", "RATE"),
    (r"[0-9.]+ (?:B|[KMG]iB)\b", "SIZE"),
    (r"[0-9]+ bytes", "SIZE"),
    (r"[0-9.]+ ms\b", "SECONDS"),
    (r"[0-9,]+/s\b", "RATE"),
    # A receiver seals by time, too: how many segments they were depends on the machine.
    (r"at byte [0-9,]+", "at byte N"),
)

_SHOWN_PORT = "8080"


class Step(NamedTuple):
    """A command of the session, and the lines that are shown below it."""

    command: str
    shown: list[str]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def session(block: str) -> list[Step]:
    steps: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:], []))
        else:
            steps[-1].shown.append(line)
    return steps


class Shell:
    """One bash for a whole session, as a reader has it: variables and background jobs last.

    What it starts and leaves is ended with it.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """Return the exit code and all that was printed, errors included."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        mark = secrets.token_hex(8)
        # `$?` of the next command is that of this one.
        self._process.stdin.write(f"{command}\ncode=$?; printf '%s %s\\n' {mark} $code; (exit $code)\n")
        self._process.stdin.flush()
        output = []
        for line in self._process.stdout:
            before, found, code = line.partition(mark)
            output.append(before)
            if found:
                return int(code), "".join(output)
        raise AssertionError(f"the shell ended: {''.join(output)}")

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate(timeout=30)


def unchanging(line: str) -> str:
    for pattern, name in CHANGING:
        line = re.sub(pattern, name, line)
    return line.strip()


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which `archiver` is this checkout's, whether it is installed or not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "archiver"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m archiver "$@"\n')
    command.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    path = os.pathsep.join([str(folder), clean.get("PATH", os.defpath)])
    return clean | {"PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_session_shows_what_comes_out(
    tmp_path: Path, shell_environment: dict[str, str], number: int
) -> None:
    here = tmp_path / "session"
    here.mkdir()
    shown = blocks("console")
    assert len(shown) == 4
    steps = session(shown[number])
    assert len(steps) > 8
    port = str(free_ports(1)[0])
    with Shell(here, shell_environment) as shell:
        for place, step in enumerate(steps):
            code, output = shell.run(step.command.replace(_SHOWN_PORT, port))
            told = f"$ {step.command}\n{output}"
            code_is_shown = place + 1 < len(steps) and steps[place + 1].command == "echo $?"
            assert code == 0 or code_is_shown, told
            found = [unchanging(line) for line in output.replace(port, _SHOWN_PORT).splitlines()]
            assert [unchanging(line) for line in step.shown] == found, told


def test_the_library_snippet_runs(tmp_path: Path, shell_environment: dict[str, str]) -> None:
    (snippet,) = blocks("python")
    assert len(snippet.splitlines()) <= 16
    (tmp_path / "snippet.py").write_text(snippet)
    for command in (
        ["archiver", "generate", "--events", "300", "--workspaces", "2", "--days", "2", "--out", "spool"],
        ["archiver", "run", "--settle", "0", "--spool", "spool", "--archive", "archive", "--quiet"],
        [sys.executable, "-W", "error", "snippet.py"],
    ):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=shell_environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 3), done.stderr
    assert done.returncode == 0
    counted = re.search(r"^([0-9]+) events of ([0-9]+) kinds$", done.stdout, re.MULTILINE)
    assert counted is not None, done.stdout
    assert int(counted[1]) > 250
    assert int(counted[2]) > 5
    assert re.search(r"^[1-9][0-9]* actors$", done.stdout, re.MULTILINE), done.stdout


def test_the_shown_configuration_is_one(tmp_path: Path) -> None:
    from archiver.config import read_settings  # noqa: PLC0415 - the other tests do without

    to_a_siem, shown = blocks("toml")
    file = tmp_path / "archiver.toml"
    file.write_text(to_a_siem)
    assert read_settings(file).destinations["siem"].form == "ocsf"
    file.write_text(shown)
    settings = read_settings(file)
    assert settings.destinations["siem"].kind == "elastic"
    assert settings.plan == "starter"
    assert settings.archive == "s3://audit-archive/production"
    assert settings.streams["production"].workspaces == ("ws_1a2b3c4d",)
    assert settings.streams["production"].secret_env == ("ARCHIVER_SECRET_PRODUCTION",)
    assert settings.queries == (str(tmp_path / "my-queries"),)
    assert settings.receive.listen == "127.0.0.1:8080"
