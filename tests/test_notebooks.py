"""The notebooks: they run, they find who did it, and nobody's text does anything in them."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

from archiver.generate import deliveries
from tests.notebooks import NOTEBOOKS, PAGES, ROOT, digest, generated, read, rendered, run, stripped
from tests.support import archive_bodies, event, new_archive

INCIDENT = ROOT / "notebooks" / "investigating_an_incident.ipynb"
REAL = ROOT.parent / "shared" / "data" / "stratus-2023-07-10.ndjson.gz"
LARGEST_PAGE_BYTES = 1_000_000
EVENTS = {"events": 2_500, "seed": 3, "workspaces": 4, "days": 3}
FRAME = {"meta", "html", "head", "title", "style", "body"}
SHOWN = {"h1", "h2", "p", "em", "strong", "b", "a", "div", "pre", "code", "span", "table", "tr", "th", "td"}
DRAWN = {"svg", "g", "path", "text", "rect", "line", "defs", "clippath", "lineargradient", "stop"}
HARMLESS = FRAME | SHOWN | DRAWN | {"img"}
PICTURE = "data:image/svg+xml;base64,"


class Page(HTMLParser):
    """What a browser would make of a page: elements, what would do or fetch something, words, pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.doing: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.pictures: list[Page] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            fetches = name in ("src", "href", "xlink:href", "action", "formaction", "srcset", "data")
            if fetches and (value or "").startswith(PICTURE):
                self.pictures.append(Page(b64decode((value or "").removeprefix(PICTURE)).decode()))
            elif name.startswith("on") or (fetches and not (value or "").startswith("#")):
                self.doing.append((name, value))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def is_harmless(self) -> bool:
        return (
            self.elements <= HARMLESS and not self.doing and all(one.is_harmless() for one in self.pictures)
        )


def finding(notebook: NotebookNode) -> dict[str, Any]:
    """Return what the notebook concluded; its last cell was told to print it."""
    found: dict[str, Any] = json.loads(notebook.cells[-1].outputs[0].text)
    return found


def investigated(archive: Path, **options: Any) -> NotebookNode:
    return run(INCIDENT, archive, last="import json\nprint(json.dumps(finding))", **options)


def conclusion(notebook: NotebookNode) -> str:
    """Return the text that the cell under the last heading but one shows, without its markup."""
    at = next(number for number, cell in enumerate(notebook.cells) if "## What was found" in cell.source)
    return " ".join(
        word.strip()
        for output in notebook.cells[at + 1].outputs
        for word in Page(output.data["text/html"]).words
    )


@pytest.fixture(scope="module")
def on_generated_events(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    archive = generated(tmp_path_factory.mktemp("generated"), **EVENTS)
    return investigated(archive, timezone="Pacific/Auckland")


def intruder() -> tuple[str, str]:
    """Ask the generator who it was, and with which session."""
    for one in deliveries(**EVENTS):  # type: ignore[arg-type]
        if one.kind == "event" and b'"role.granted"' in one.body and b'"curl/8.6.0"' in one.body:
            told = json.loads(one.body)["data"]
            return told["actor_id"], told["session_id"]
    raise AssertionError("no incident was generated")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_in_git_has_no_outputs_and_nothing_of_its_editor(path: Path) -> None:
    assert path.read_text() == stripped(read(path)), "run: python -m tests.notebooks"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rendered_page_is_that_of_the_present_notebook(path: Path) -> None:
    page = (PAGES / f"{path.stem}.html").read_text()
    assert f'name="notebook-digest" content="{digest(read(path))}"' in page, "run: python -m tests.notebooks"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rendered_page_is_one_small_file_that_runs_and_fetches_nothing(path: Path) -> None:
    text = (PAGES / f"{path.stem}.html").read_text()
    page = Page(text)
    assert len(text.encode()) < LARGEST_PAGE_BYTES
    assert page.is_harmless(), (page.elements - HARMLESS, page.doing)
    assert not re.search(r"url\((?!'?#)|@import|https?://(?!www\.w3\.org/)", text)
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)
    assert text.count('<img alt="Chart: ') == len(page.pictures) == 5


def test_every_page_belongs_to_a_notebook() -> None:
    assert {page.stem for page in PAGES.iterdir()} == {path.stem for path in NOTEBOOKS}


def test_on_generated_events_the_notebook_finds_the_generators_intruder(
    on_generated_events: NotebookNode,
) -> None:
    found, (actor, session) = finding(on_generated_events), intruder()
    assert (found["actor"], found["key"]) == (actor, session)
    assert found["phases"] == {
        **{"failed logins": 26, "logins": 1, "persistence": 2, "evasion": 1},
        **{"exfiltration": 38, "destruction": 57},
    }
    assert list(found["phases"])[-2:] == ["exfiltration", "destruction"]  # in their order
    told = conclusion(on_generated_events)
    assert actor in told
    assert session in told


def test_charts_tell_utc_wherever_they_are_drawn(on_generated_events: NotebookNode) -> None:
    pictures = [
        output.data["image/svg+xml"]
        for cell in on_generated_events.cells
        for output in cell.get("outputs", ())
        if "image/svg+xml" in output.get("data", {})
    ]
    assert len(pictures) == 5
    for picture in (pictures[1], pictures[2]):  # the incident is between 02:11 and 02:50
        clock = set(re.findall(r">(\d\d):\d\d<", picture))
        assert clock == {"02"}


def test_a_key_that_was_reported_is_looked_at_even_if_others_are_odder(tmp_path: Path) -> None:
    """Nobody's text means anything, neither in HTML nor in a chart; the reported key has some of it."""
    evil = "</svg><script>alert(1)</script><img src=x onerror=alert(2)>`**[x](javascript:alert(3))**`$x$"
    bodies = [
        event(
            f"id-{number}",
            timestamp=f"2026-03-26T10:{number % 60:02d}:00Z",
            actor_id=f"{evil}{number % 3}",
            actor_name=f"\u202e{evil}\n\x1b[31m",
            action=f"{evil}.deleted" if number % 5 else f"{evil}.created",
            session_id=f"{number % 3}{evil}",
            resource_id=evil,
            ip_address=evil,
            ip_country=evil,
            user_agent=evil,
            metadata={"requestParameters": {f'name"{evil}': evil}, "errorCode": evil},
        )
        for number in range(120)
    ]
    archive_bodies(new_archive(tmp_path / "archive"), *bodies)
    notebook = investigated(tmp_path / "archive", KEY=f"2{evil}")
    assert finding(notebook)["key"] == f"2{evil}"
    page = Page(rendered(notebook, of=read(INCIDENT)))
    assert page.is_harmless(), (page.elements - HARMLESS, page.doing)
    assert sum(evil in word for word in page.words) > 10  # it is there, as text
    assert any("alert(3)" in word for picture in page.pictures for word in picture.words)
    every = "".join(word for one in (page, *page.pictures) for word in one.words)
    assert not re.search("[\x1b\u202e]", every)


@pytest.mark.skipif(not REAL.exists(), reason="the real events (../shared/data) are not here")
def test_on_real_events_the_notebook_finds_the_attacker_and_what_was_done(tmp_path: Path) -> None:
    bodies = gzip.decompress(REAL.read_bytes()).splitlines()
    archive_bodies(new_archive(tmp_path / "archive"), *bodies)
    notebook = investigated(tmp_path / "archive")
    found = finding(notebook)
    assert found["actor"].endswith(":user/bert-jan")
    assert {"credentials", "persistence", "evasion", "exfiltration", "destruction"} <= set(found["phases"])
    assert sum("stratus-red-team" in one for one in found["companions"]) >= 5  # roles that were taken
    told = conclusion(notebook)
    for action in (
        "GetSecretValue",
        "CreateRole",
        "StopLogging",
        "ModifySnapshotAttribute",
        "DeleteParameter",
    ):
        assert action in told
