"""Text of events is data in every output: markup, escapes, formulas and links do nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import archiver
from archiver.archive import Archive
from archiver.errors import QueryError
from archiver.query.escaping import html_text, json_text, markdown_text, no_formula, shown
from archiver.query.output import Format, write_answer
from archiver.query.session import open_session
from tests.support import archive_bodies, event, new_archive

TERMINAL = [
    "[bold red]markup[/bold red] [link=https://example.com]x[/link]",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;https://example.com\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;aGk=\x07",
    "\x9b2J\x90q\x9c",
    "gnp.\u202etxt.exe",
    "\u2066a\u2069\u200e\u200f\u061c",
    "adm\u200bin\u200d\ufeff\u00ad",
    "\U000e0041\U000e0042 tags",
    "\u3164\u115f\u2800 blanks",
    "\r\x08\x08over",
    "line\u2028line\u2029line\x85line\x0bline\x0c",
    "\x00nul",
]
PAGE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><style>*{display:none}</style>",
    "<a href='data:text/html,x'>x</a><iframe src=javascript:alert(1)>",
    '" style="position:fixed" onload=\'x\' `y`',
    "<!-- --><![CDATA[ ]]><?php ?>",
    "&lt;b&gt; &#60;b&#62; &amp;",
    r"$\href{javascript:alert(1)}{x}$ \(x\) \[y\] $$z$$ \begin{math}",
]
MARKDOWN = [
    "[x](javascript:alert(1)) ![x](https://example.com/x.png)",
    "a | b || c \\| d",
    "https://example.com www.example.com HTTP://example.com a@example.com",
    "<https://example.com> `code` ``` ~~~ ~~x~~ **b** __b__",
    "# head",
    "[^1] [ref]: x",
    "line\nline\r\n| --- |",
    "$x$ &copy; #1 ==x== ^x^",
]
FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\x00=1",
    "＝1",
    "＋1",
    "－1",
    "＠x",
    "﹦1",
    "   =1",
    "\u00a0=1",
    "\u200b=1",
    "\ufeff=1",
    "'=1",
    '"=1',
    "“=1",
    '=HYPERLINK("https://example.com?"&A1,"x")',
    "a;=1",
    "a;\t=1",
    "a\n=1",
    'a"\r\n"=1',
    "a;+1;-1;@x",
    "\ttab",
    "\rreturn",
]
ALL = [*TERMINAL, *PAGE, *MARKDOWN, *FORMULAS]
# What a terminal may act upon, and what is not seen.
ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u3164\u115f\u2800]"
    "|[\U000e0000-\U000e007f]"
)
FORMS: list[Format] = ["table", "csv", "json", "jsonl", "markdown", "parquet"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "archive"
    made = new_archive(folder)
    archive_bodies(made, *(event(f"e{n:03d}", actor_name=text) for n, text in enumerate(ALL)))
    return folder


@pytest.fixture(scope="module")
def reader(place: Path) -> archiver.Reader:
    return archiver.open(place)


def written(archive: Archive, form: Format, statement: str, parameters: Any = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    write_answer(open_session(archive).sql(statement, parameters), form, stream, **options)
    return stream.getvalue()


ASKED = "SELECT actor_name AS name FROM events ORDER BY id"
ALIAS = "\x1b]0;x\x07<b>|=1\u202e[x](y)"
ALIASED = 'SELECT 1 AS "{}"'.format(ALIAS.replace('"', '""'))


def test_the_events_came_as_they_are(reader: archiver.Reader) -> None:
    assert reader.sql(ASKED).arrow()["name"].to_pylist() == ALL


@pytest.mark.parametrize("statement", [ASKED, ALIASED, f"SELECT {{'{ALIAS}': ['{ALIAS}']}} AS x"])
@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl", "markdown"])
def test_nothing_that_a_terminal_acts_upon_is_written_to_it(
    reader: archiver.Reader, form: Format, statement: str
) -> None:
    text = written(reader.archive, form, statement, width=200).decode()
    assert ACTING.findall(text) == []


def test_what_is_shown_differs_where_the_text_does(reader: archiver.Reader) -> None:
    lines = written(reader.archive, "table", ASKED).decode().splitlines()[2:]
    assert len(lines) == len(ALL) == len(set(lines))
    assert "[bold red]markup[/bold red] [link=https://example.com]x[/link]" in lines
    assert "gnp.\\u202etxt.exe" in lines


# --- JSON


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_means_exactly_what_came(reader: archiver.Reader, form: Format) -> None:
    text = written(reader.archive, form, ASKED).decode()
    rows = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
    assert [row["name"] for row in rows] == ALL
    if form == "jsonl":  # whatever is taken for the end of a line
        assert len(text.splitlines()) == text.count("\n") == len(ALL)
    assert json.loads(written(reader.archive, "json", ALIASED)) == [{ALIAS: 1}]


def test_json_text_outside_the_first_plane_is_a_pair() -> None:
    assert json_text('"\U000e0041"') == '"\\udb40\\udc41"'
    assert json.loads(json_text('"\\\\\u202e"')) == "\\\u202e"


# --- CSV


def parsed(text: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline=""), delimiter=delimiter))


def test_raw_csv_means_exactly_what_came(reader: archiver.Reader) -> None:
    rows = parsed(written(reader.archive, "csv", ASKED, raw=True))
    assert [row[0] for row in rows[1:]] == ALL
    assert {len(row) for row in rows} == {1}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("statement", [ASKED, f"SELECT name, 'x' AS y, 'a' AS z FROM ({ASKED})", ALIASED])
def test_no_cell_of_csv_is_a_formula_wherever_it_is_opened(
    reader: archiver.Reader, delimiter: str, statement: str
) -> None:
    """As a country reads it whose lists are parted by commas, by semicolons, or by tabs."""
    for row in parsed(written(reader.archive, "csv", statement), delimiter):
        for cell in row:
            inside = re.sub('^[\\s\x00\u200b\ufeff"]+', "", cell)
            assert not inside.startswith(tuple("=+-@＝＋－＠﹦")), cell
            assert not cell.startswith(("\t", "\r", "\n", "\0")), cell


def test_the_guard_is_a_quote_before_and_nothing_else_changes() -> None:
    for text in FORMULAS:
        assert "'" in no_formula(text)
        assert no_formula(text).replace("'", "") == text.replace("'", "")
    for harmless in ("a=1", "a-b", "a - b", "2026-03-26", "x@example.com", "it's", "", " ", "a;b", "1;2"):
        assert no_formula(harmless) == harmless


def test_numbers_are_not_guarded_and_texts_in_lists_are(reader: archiver.Reader) -> None:
    text = written(reader.archive, "csv", "SELECT -5 AS i, -1.5 AS d, -2.5::DOUBLE AS f, '-5' AS t")
    assert text == b"i,d,f,t\n-5,-1.5,-2.5,'-5\n"


def test_guarding_a_long_run_of_blanks_takes_no_longer_than_reading_it() -> None:
    for hostile in ("\t" * 500_000, "; " * 250_000 + "=", "\t=" * 100_000):
        assert no_formula(hostile)  # quadratic, this would take minutes


# --- Markdown


def test_markdown_has_a_line_a_row_and_a_cell_a_value(reader: archiver.Reader) -> None:
    lines = written(reader.archive, "markdown", ASKED).decode().splitlines()
    assert len(lines) == len(ALL) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 2


@pytest.mark.parametrize("text", [*MARKDOWN, *PAGE])
def test_markdown_takes_nothing_for_markup_or_a_link(text: str) -> None:
    bare = re.sub(r"\\[\\`*_{}\[\]<>#|&~$@^=:.]", "", markdown_text(text))  # less what is escaped
    assert not re.search(r"[\\`*_{}\[\]<>#|&~$@^=]|://|www\.", bare, re.IGNORECASE)


# --- notebooks


class Text(HTMLParser):
    """The text of each cell of a table; and every tag and attribute there is."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@pytest.mark.parametrize("start", range(0, len(ALL), 40))
def test_a_notebook_shows_text_as_text(reader: archiver.Reader, start: int) -> None:
    html = reader.sql(f"{ASKED} LIMIT 40 OFFSET {start}")._repr_html_()
    page = Text(html)
    assert page.cells[1:-1] == [shown(text) for text in ALL[start : start + 40]][:-1]
    assert page.tags <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "em", "span"}
    assert page.attributes <= {"style", "class"}
    assert ACTING.findall(html) == []
    # Alone in an element, these begin no formula; and the whole is closed to MathJax.
    assert set(re.findall(r".{6}[$\\].{7}", html)) <= {"<span>$</span>", "<span>\\</span>"}
    assert html.startswith('<div class="tex2jax_ignore mathjax_ignore"')


def test_titles_names_and_workspaces_are_text_in_a_notebook(place: Path, tmp_path: Path) -> None:
    own = (Path(archiver.open(place).queries["failed_logins"].path)).read_text()
    (tmp_path / "mine.sql").write_text(own.replace("Failed logins", PAGE[0]).replace("Who failed", PAGE[1]))
    reader = archiver.open(place, queries=tmp_path)
    for html in (
        reader.query("mine")._repr_html_(),
        reader.queries._repr_html_(),
        reader.events(workspace=PAGE[2] + TERMINAL[1])._repr_html_(),
        reader.sql(ALIASED)._repr_html_(),
    ):
        assert Text(html).tags <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "span"}
        assert ACTING.findall(html) == []


def test_html_text_means_what_is_shown() -> None:
    for text in ALL:
        assert unescape(re.sub("</?span>", "", html_text(text))) == shown(text)


# --- the rest


def test_show_and_repr_print_nothing_that_acts(
    reader: archiver.Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (reader.sql(ASKED), reader.sql(ALIASED), reader.events(workspace=TERMINAL[1])):
        found.show(None)
        print(repr(found))
    assert ACTING.findall(capsys.readouterr().out) == []


@pytest.mark.parametrize("text", [text for text in TERMINAL if "\x00" not in text])
def test_an_error_that_quotes_a_value_does_not_act(reader: archiver.Reader, text: str) -> None:
    for statement, parameters in (
        ("SELECT CAST($x AS INTEGER)", {"x": text}),
        ('SELECT "{}" FROM events'.format(text.replace('"', '""')), None),
        ("SELECT error($x)", {"x": text}),
    ):
        with pytest.raises(QueryError) as failed:
            reader.sql(statement, parameters).arrow()
        assert ACTING.findall(failed.value.message) == []


def test_parquet_keeps_text_as_it_is(reader: archiver.Reader) -> None:
    table = pq.read_table(io.BytesIO(written(reader.archive, "parquet", ASKED)))
    assert table["name"].to_pylist() == ALL
