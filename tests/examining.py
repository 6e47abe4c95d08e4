"""The checks of `doctor` by their names, and a spool for it to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archiver import doctor
from archiver.doctor import Check


def examine(store: Any, *spools: Path, **options: Any) -> dict[str, Check]:
    report = doctor.examine(lambda: store, spools, **{"rounds": 2, **options})
    return {check.name: check for check in report.checks}


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder
