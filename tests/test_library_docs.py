"""The examples of docs/library.md, and those in the docstrings, run as they stand there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import archiver
from archiver import reader
from tests.support import archive_bodies, event, new_archive

PAGE = Path(__file__).resolve().parent.parent / "docs/library.md"
FLAGS = doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> archiver.Reader:
    """An archive in the folder `archive` of the present one, as the page tells of it."""
    monkeypatch.chdir(tmp_path)
    place = new_archive(tmp_path / "archive")
    eve = {"actor_id": "user_7", "actor_name": "Eve", "ip_country": "DE", "ip_address": "192.0.2.1"}
    archive_bodies(
        place,
        event("d0", timestamp="2026-03-24T08:00:00Z"),
        event("d1", timestamp="2026-03-25T08:00:00Z"),
        event("d2", timestamp="2026-03-26T08:00:00Z", actor_name="Zoë"),
        event("d3", action="auth.login", **eve),
        *(event(f"f{n}", action="auth.login_failed", **eve) for n in range(8)),
    )
    found = archiver.open(tmp_path / "archive")
    archive_bodies(place, b"{}")
    return found


def run(test: doctest.DocTest) -> int:
    told: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=told.append)
    assert not failed, "".join(told)
    return tried


def test_the_examples_of_the_page(here: archiver.Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = archiver.open

    def open_(location: str, **options: object) -> archiver.Reader:
        # Where nothing else is told, that of before the second commit: refresh has one to find.
        return here if not options else opened(location, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(archiver, "open", open_, raising=False)
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    assert run(doctest.DocTestParser().get_doctest(text, {}, "library.md", str(PAGE), 0)) > 15


def test_the_examples_in_docstrings(here: archiver.Reader) -> None:
    found = doctest.DocTestFinder(exclude_empty=True).find(reader, extraglobs={"archive": here})
    tried = sum(run(test) for test in found if test.examples)
    assert tried >= 4
