"""A spool, an archive and a configured destination for whoever looks at them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archiver.archive import Archive
from archiver.config import Settings
from archiver.forward.folders import make_for_receivers
from archiver.forward.settings import Destination
from tests.support import RECEIVED_US, archive_bodies, event, new_archive

LATER_US = RECEIVED_US + 90_000_000
LIVE = Destination(name="siem", kind="splunk", url="https://siem.example.com:8088")
OF_ARCHIVE = replace(LIVE, origin="archive")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "spool").mkdir()
    settings = Settings(spools=(str(tmp_path / "spool"),), destinations={"siem": LIVE})
    assert make_for_receivers(settings) == []
    return settings


@pytest.fixture
def spool(settings: Settings) -> Path:
    return Path(settings.spools[0])


@pytest.fixture
def state(settings: Settings) -> Path:
    folder = settings.forward_folder / "siem"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """With three commits of four, two and one events, of two workspaces and so in several files."""
    archive = new_archive(tmp_path / "archive")
    archive_bodies(archive, *(event(f"a{n}", workspace=f"ws_{n % 2}") for n in range(4)))
    archive_bodies(archive, event("b0"), event("b1"))
    archive_bodies(archive, event("c"))
    return archive
