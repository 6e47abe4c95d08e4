"""The command line called in this process, and an archive and a spool to call it for."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archiver.cli import main as command_line
from tests.support import archive_bodies, event, new_archive


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
