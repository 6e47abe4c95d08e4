"""System calls that fail when a test says so, and a record of what was made durable.

`failing_calls.c`, preloaded into a real process, does it; here it is compiled and told.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

SOURCE: Final = Path(__file__).with_name("failing_calls.c")
FOR_EVER: Final = 1_000_000_000

Kind = Literal["fsync", "folder", "hang", "slow", "write"]


class Record(NamedTuple):
    """`kind` is F (a file was synced), D (a folder was) or E (an fsync was made to fail)."""

    kind: str
    path: Path
    told: str


@dataclass
class FailingCalls:
    """What one test does to the processes that have `environment`."""

    library: Path
    folder: Path
    rules: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "FAILING_CALLS": str(self.folder)}

    def fail(
        self, kind: Kind, *, skip: int = 0, count: int = FOR_EVER, error: int = errno.EIO, most: int = 0
    ) -> None:
        """Let calls fail, or hang, or take longer, from now on; see the C file."""
        self.rules += 1
        self._tell("rule", f"{self.rules} {kind} {skip} {count} {error} {most}")

    def heal(self) -> None:
        (self.folder / "rule").unlink()

    def move_clock(self, seconds: float) -> None:
        """Put the wall clock so far ahead of the real one."""
        self._tell("clock", f"{int(seconds)}")

    def records(self) -> list[Record]:
        """Return what was recorded, in order; a line that a kill cut short is none."""
        try:
            lines = (self.folder / "records").read_text().split("\n")
        except FileNotFoundError:
            return []
        split = [line.split("\t") for line in lines if line.endswith("\t.")]
        return [Record(kind, Path(path), told) for kind, path, told, _ in split]

    def failed(self) -> list[Record]:
        return [record for record in self.records() if record.kind == "E"]

    def _tell(self, name: str, text: str) -> None:
        draft = self.folder / f".{name}"
        draft.write_text(text)
        draft.replace(self.folder / name)


@pytest.fixture(scope="session")
def failing_calls_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library; where there is no compiler the tests that need it do not run."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        reason = "no C compiler (cc) to make system calls fail with; see .ci/install-services"
        if os.environ.get("ARCHIVER_REQUIRE_CC") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    library = tmp_path_factory.mktemp("calls") / "failing_calls.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    done = subprocess.run([*command, "-ldl"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@pytest.fixture
def calls(failing_calls_library: Path, tmp_path: Path) -> Iterator[FailingCalls]:
    """Calls that go well until the test says otherwise."""
    folder = tmp_path / "calls"
    folder.mkdir()
    yield FailingCalls(failing_calls_library, folder)
    # A process that hangs in a call must not outlive its test.
    (folder / "rule").unlink(missing_ok=True)
