"""Rows as HTML, for a notebook: a bounded number of them, and nothing of theirs is taken for markup.

No script, no style sheet, nothing from elsewhere; the colours are those of the page, so
it can be read in light, in dark and on paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from archiver.errors import QueryError
from archiver.query.escaping import html_text
from archiver.query.output import is_number
from archiver.query.values import text_of, values_of

MOST_ROWS: Final = 50
MOST_COLUMNS: Final = 60
LONGEST_CELL: Final = 200  # characters

_LINE: Final = "1px solid rgba(128,128,128,.4)"
# Both classes keep MathJax, in its versions, from looking for formulas.
_FRAME: Final = '<div class="tex2jax_ignore mathjax_ignore" style="max-width:100%;overflow-x:auto">'
_TABLE: Final = f'<table style="border-collapse:collapse;border-bottom:{_LINE}">'
_CELL: Final = "padding:2px 8px;vertical-align:top;overflow-wrap:anywhere"


def table_html(table: pa.Table, *, title: str = "", told: str = "", below: Sequence[str] = ()) -> str:
    """Return a table as HTML.

    Args:
        table: Of which the first `MOST_ROWS` rows and `MOST_COLUMNS` columns are shown, and
            of each value the first `LONGEST_CELL` characters.
        title, told: What it is called and what it answers, above it.
        below: What else there is to say about it.
    """
    part = table.slice(0, MOST_ROWS).select(list(range(min(table.num_columns, MOST_COLUMNS))))
    columns = [_texts(column) for column in part.columns]
    right = [is_number(kind) for kind in part.schema.types]
    rows: list[Iterable[str | None]] = list(zip(*columns, strict=True))
    notes = list(below)
    if table.num_columns > MOST_COLUMNS:
        notes.append(f"{table.num_columns - MOST_COLUMNS:,} more columns are not shown")
    return text_table(part.schema.names, rows, right=right, title=title, told=told, below=notes)


def text_table(
    names: Sequence[str],
    rows: Iterable[Iterable[str | None]],
    *,
    right: Sequence[bool] = (),
    title: str = "",
    told: str = "",
    below: Sequence[str] = (),
) -> str:
    """Return rows of texts as HTML; None is an empty cell.

    Args:
        right: Of each column, whether it stands to the right.
    """
    sides = ["right" if one else "left" for one in right] or ["left"] * len(names)
    parts = [_FRAME]
    if title:
        parts.append(f'<p style="margin:0 0 4px"><strong>{_cut(title)}</strong> {_cut(told)}</p>')
    parts.append(f"{_TABLE}<thead><tr>")
    parts += [
        f'<th style="{_CELL};text-align:{side};border-bottom:{_LINE}">{_cut(name)}</th>'
        for name, side in zip(names, sides, strict=True)
    ]
    parts.append("</tr></thead><tbody>")
    for row in rows:
        cells = (
            f'<td style="{_CELL};text-align:{side}">{"" if text is None else _cut(text)}</td>'
            for text, side in zip(row, sides, strict=True)
        )
        parts.append(f"<tr>{''.join(cells)}</tr>")
    parts.append("</tbody></table>")
    parts += [f'<p style="margin:4px 0 0;opacity:.75">{_cut(note)}</p>' for note in below if note]
    parts.append("</div>")
    return "".join(parts)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    try:
        found = [value for chunk in column.chunks for value in values_of(chunk)]
    except QueryError:
        return [f"({column.type})"] * len(column)
    return [None if value is None else text_of(value) for value in found]


def _cut(text: str) -> str:
    rest = len(text) - LONGEST_CELL
    return html_text(text) if rest <= 0 else f"{html_text(text[:LONGEST_CELL])}… <em>(+{rest:,})</em>"
