"""An archive whose events have ages in days, and rules by which they expire."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import clock
from archiver.archive import Archive
from archiver.config import Retention
from archiver.retain import RetainReport
from archiver.spans import parse_span
from tests.support import archive_bodies, event, new_archive

TODAY = date(2026, 11, 23)
CASE = "case 7, asked for by legal"


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon of the 23rd, and every commit is of that moment."""
    noon = clock.to_us(datetime(2026, 11, 23, 12, tzinfo=UTC))
    monkeypatch.setattr(clock, "now_us", lambda: noon)


def at(day: date, time: str = "10:15:00.000000") -> str:
    return f"{day.isoformat()}T{time}Z"


def days_ago(count: int) -> date:
    return TODAY - timedelta(count)


def us(day: date) -> int:
    return clock.to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def keep(span: str, **rules: Any) -> Retention:
    return Retention(parse_span(span), **rules)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")


def add(archive: Archive, *ages: int, workspace: str = "ws_1") -> None:
    """Archive one event for each age in days; its id is its age."""
    archive_bodies(
        archive, *(event(f"{age:03d}", workspace=workspace, timestamp=at(days_ago(age))) for age in ages)
    )


def expired(report: RetainReport) -> dict[tuple[str, str], int]:
    return {where: extent.rows for where, extent in report.expired.items()}
