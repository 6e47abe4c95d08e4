"""Answers in Python: asked once, kept, bounded where they are only looked at; shown anywhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import archiver
from archiver.errors import ConfigError, QueryError
from archiver.query.html import LONGEST_CELL, MOST_COLUMNS, MOST_ROWS, table_html
from archiver.query.result import Result
from archiver.query.session import Answer, Session, open_session
from tests.support import archive_bodies, event, new_archive
from tests.test_sql_is_safe import ENDLESS


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    made = new_archive(tmp_path_factory.mktemp("result") / "archive")
    archive_bodies(made, event("e1", version=7), event("e2"))
    return open_session(made)


class Counting:
    """A question that notes how often it is asked, and how many rows were read of it."""

    def __init__(self, session: Session, statement: str) -> None:
        self.session, self.statement = session, statement
        self.asked = self.read = 0

    def __call__(self) -> Answer:
        self.asked += 1
        answer = self.session.sql(self.statement)
        original = answer.batches

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in original():
                self.read += batch.num_rows
                yield batch

        answer.batches = batches  # type: ignore[method-assign]
        return answer


def result(session: Session, statement: str) -> Result:
    return Result(lambda: session.sql(statement))


def printed(found: Result, *arguments: Any, **options: Any) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        found.show(*arguments, **options)
    return stream.getvalue()


# --- asked once, and bounded


def test_nothing_is_asked_before_rows_are_wanted_and_then_once(session: Session) -> None:
    ask = Counting(session, "SELECT range AS n FROM range(100)")
    found = Result(ask)
    assert "SQL" in repr(found)
    assert ask.asked == 0
    found._repr_html_()
    assert found.arrow().num_rows == found.pl().height == len(found.df()) == 100
    assert sum(batch.num_rows for batch in found.batches()) == 100
    printed(found)
    assert ask.asked == 1
    assert "100 rows" in repr(found)


def test_to_be_looked_at_a_huge_answer_is_not_read(session: Session) -> None:
    ask = Counting(session, "SELECT range AS n FROM range(100000000000)")
    found = Result(ask)
    html = found._repr_html_()
    assert re.search(r"the first 50 of at least [0-9,]+ rows", html)
    assert "at least" in printed(found, 3)
    assert ask.asked == 1
    assert ask.read < 200_000


def test_an_answer_of_wide_rows_is_looked_at_by_its_bytes(session: Session) -> None:
    ask = Counting(session, "SELECT repeat('x', 5000) AS x FROM range(10000000)")
    Result(ask)._repr_html_()
    assert ask.read <= 50_000


def test_batches_keep_nothing_and_may_be_left(session: Session) -> None:
    ask = Counting(session, "SELECT range AS n FROM range(100000000000)")
    found = Result(ask)
    for _ in range(2):
        assert next(found.batches()).num_rows > 0
    assert ask.asked == 2
    assert threading.active_count() < 20


def test_two_threads_ask_once(session: Session) -> None:
    ask = Counting(session, "SELECT sleep_ms(200) AS x")
    found = Result(ask)
    threads = [threading.Thread(target=found.arrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask.asked == 1


def test_after_a_failure_the_question_can_be_asked_again(session: Session) -> None:
    found = result(session, "SELECT nothing FROM events")
    for _ in range(2):
        with pytest.raises(QueryError, match="nothing"):
            found.arrow()


# --- forms


def test_every_form_is_exact(session: Session) -> None:
    found = result(
        session,
        "SELECT 9007199254740993 AS big, NULL::BIGINT AS gone, 1.50 AS d, "
        "TIMESTAMPTZ '2026-03-26 12:00+02' AS t "
        "UNION ALL SELECT NULL, 1, 2, NULL ORDER BY 1",
    )
    instant = datetime(2026, 3, 26, 10, tzinfo=UTC)
    first = {"big": 9007199254740993, "gone": None, "d": Decimal("1.50"), "t": instant}
    assert found.arrow().to_pylist()[0] == found.pl().to_dicts()[0] == first
    frame = found.df()
    assert (frame["big"].dtype, frame["big"][0]) == ("Int64", 9007199254740993)
    assert frame["gone"].isna().tolist() == [True, False]
    assert str(frame["t"].dtype) == "datetime64[us, UTC]"
    assert frame["t"][0] == pd.Timestamp(instant)
    assert result(session, "SELECT 1::BIGINT AS a").df()["a"].dtype == "int64"


def test_a_type_that_a_frame_has_not_is_a_query_error_with_a_hint(session: Session) -> None:
    for form in (
        lambda: result(session, "SELECT INTERVAL 1 DAY AS x").pl(),
        union(session).pl,
        union(session).df,
    ):
        with pytest.raises(QueryError) as failed:
            form()
        assert "cast" in failed.value.hint
    far = result(session, "SELECT TIMESTAMPTZ '12000-01-01 00:00:00Z' AS t")
    assert "(timestamp[us, tz=UTC])" in far._repr_html_()  # a page is shown all the same


def union(session: Session) -> Result:
    return result(session, "SELECT union_value(n := 1) AS x")


def test_what_takes_arrow_takes_an_answer_as_it_is(session: Session) -> None:
    found = result(session, "SELECT 1 AS x, 'a' AS y")
    assert pa.table(found).equals(found.arrow())
    assert pl.DataFrame(found).equals(found.pl())


def test_without_pandas_df_says_what_to_install(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError) as failed:
        result(session, "SELECT 1").df()
    assert failed.value.hint == "pip install pandas"


# --- shown


def test_show_prints_some_rows_and_says_how_many_more_there_are(session: Session) -> None:
    found = result(session, "SELECT range AS n FROM range(1234)")
    assert printed(found, 2) == "n\n─\n0\n1\n(the first 2 of 1,234 rows)\n"
    assert printed(found, None).count("\n") == 1236
    assert printed(result(session, "SELECT id FROM events WHERE false")) == "id\n──\n"
    assert printed(found, 0).endswith("(the first 0 of 1,234 rows)\n")


def test_show_cuts_to_the_width(session: Session) -> None:
    text = printed(result(session, "SELECT repeat('界x', 100) AS wide, 5 AS n"), width=40)
    assert all(len(line) <= 40 for line in text.splitlines())


def test_show_needs_nothing_of_stdout_but_write(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ipykernel's stream, there is no `buffer`; as an old terminal, it knows few characters."""

    class Stream(io.TextIOBase):
        encoding = "ascii"
        text = ""

        def write(self, text: str) -> int:
            text.encode("ascii")
            self.text += text
            return len(text)

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    result(session, "SELECT 'Zoë' AS name").show()
    assert stream.text.endswith("Zo\\xeb\n")


def test_show_keeps_the_order_of_what_is_printed(tmp_path: Path) -> None:
    archive_bodies(new_archive(tmp_path / "a"), event("e1"))
    program = (
        "import archiver\nr = archiver.open('a')\nprint('before')\n"
        "r.sql('SELECT id FROM events').show()\nprint('after')"
    )
    done = run_python(tmp_path, program)
    assert done.stdout.split() == ["before", "id", "──", "e1", "after"]


class Page(HTMLParser):
    """What is in a piece of HTML: tags and their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.rows = 0
        self.feed(html)
        self.close()
        assert self.open == []  # well formed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_notebook_shows_title_question_rows_and_snapshot(tmp_path: Path) -> None:
    archive_bodies(new_archive(tmp_path / "a"), *(event(f"e{n}", action="x.login_failed") for n in range(9)))
    reader = archiver.open(tmp_path / "a")
    html = reader.query("failed_logins")._repr_html_()
    page = Page(html)
    for told in ("Failed logins", "Who failed to log in", "1 row", "commit 1 of"):
        assert told in html
    assert page.tags.count("tr") == 2
    assert re.search(r"text-align:right[^>]*>9</td>", html)  # numbers to the right
    assert set(page.tags) <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "em", "span"}
    assert {name for name, _ in page.attributes} <= {"style", "class"}
    assert not re.search(r"(?<!-)\bcolor:|background|url|http|#[0-9a-f]", html)  # the page's own colours
    assert "Events" in reader.events(workspace="ws_1")._repr_html_()


def test_what_a_notebook_shows_is_bounded_and_says_so() -> None:
    wide = pa.table({f"c{n}": ["x" * 1_000] * 60 for n in range(70)})
    html = table_html(wide)
    page = Page(html)
    assert page.tags.count("tr") == MOST_ROWS + 1
    assert page.tags.count("th") == MOST_COLUMNS
    assert "10 more columns are not shown" in html
    assert "(+800)" in html
    assert len(html) < MOST_ROWS * MOST_COLUMNS * (LONGEST_CELL + 200)


def test_ipython_shows_a_table_as_text_too(session: Session) -> None:
    class Printer:
        told = ""

        def text(self, text: str) -> None:
            self.told += text

    printer = Printer()
    result(session, "SELECT 1 AS one")._repr_pretty_(printer, cycle=False)
    assert printer.told == "one\n───\n  1\n"


# --- interrupted


def run_python(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    root = Path(archiver.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "asked",
    [
        "reader.sql(ENDLESS).arrow()",
        "reader.sql(ENDLESS)._repr_html_()",
        "reader.events().pl().select('id').collect()",
    ],
)
def test_ctrl_c_stops_the_statement_and_the_reader_goes_on(tmp_path: Path, asked: str) -> None:
    archive_bodies(new_archive(tmp_path / "a"), event("e1"))
    program = f"""
import os, signal, threading, time
import archiver
from archiver.query import lazy
ENDLESS = {ENDLESS!r}
reader = archiver.open("a")
lazy._native_paths = lambda *_: None
select = lazy._select
lazy._select = lambda *_: f"SELECT n::VARCHAR AS id FROM ({{ENDLESS.replace('count(*)', 'count(*) AS n')}})"
reader.sql("SELECT 1").pl()
main = os.getpid()
threading.Timer(1.5, lambda: os.kill(main, signal.SIGINT)).start()
started = time.monotonic()
try:
    try:
        {asked}
    except KeyboardInterrupt:
        time.sleep(0.2)  # polars tells Python of it a second time
except KeyboardInterrupt:
    pass
print(time.monotonic() - started < 30)
lazy._select = select
print(reader.events().pl().select("id").collect().item())
"""
    done = run_python(tmp_path, program)
    assert done.stdout.split() == ["True", "e1"], done.stderr
    assert done.stderr == ""


def test_a_program_that_leaves_an_answer_half_read_ends(tmp_path: Path) -> None:
    archive_bodies(new_archive(tmp_path / "a"), event("e1"))
    program = (
        "import archiver\nfound = archiver.open('a').sql('SELECT * FROM range(100000000000)')\n"
        "kept = found.batches()\nnext(kept)\nprint('left')"
    )
    done = run_python(tmp_path, program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_a_signal_handler_of_the_program_is_left_alone(session: Session) -> None:
    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()
    result(session, "SELECT 1").arrow()
    assert signal.getsignal(signal.SIGINT) is before
    assert time.monotonic() - started < 60
    assert isinstance(result(session, "SELECT 1 AS a").pl(), pl.DataFrame)
