"""docs/queries.md, made from the headers of the queries; `make docs` writes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from archiver.query.catalog import TOPICS, Catalog, Query, by_topic
from archiver.query.header import DRAWINGS, OPTIONS, TYPES

EXAMPLE: Final = """\
-- title: Logins without a second factor
-- topic: Logins
-- answers: Who logged in, and verified no second factor within the next minutes?
-- when: In access reviews, and after a password leaked.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param within_minutes INTEGER 5 so soon after the login
-- column actor_id VARCHAR who
-- column logins BIGINT how many logins without one
-- draw: bars logins by actor_id
SELECT login.actor_id, count(*) AS logins
FROM events AS login
WHERE login.dt BETWEEN $since_day AND $until_day
    AND login.event_time >= $since AND login.event_time < $until
    AND ($workspace IS NULL OR login.workspace = $workspace)
    AND login.action = 'auth.login'
    AND NOT EXISTS (
        SELECT 1 FROM events AS factor
        WHERE factor.dt BETWEEN $since_day AND $until_day
            AND factor.workspace = login.workspace
            AND factor.actor_id = login.actor_id
            AND factor.action = 'auth.mfa_verified'
            AND factor.event_time >= login.event_time
            AND factor.event_time < login.event_time + $within_minutes * INTERVAL '1' MINUTE
    )
GROUP BY login.actor_id
ORDER BY logins DESC, login.actor_id
"""

_ASKING: Final = """\
# Named queries

Questions that come up again and again, each in a file of its own in `queries/`. The SQL in a file is what
DuckDB runs, with values bound to its parameters. This page is generated from the headers of the files
(`make docs`).

## Asking from the shell

```sh
archiver queries                                     # all of them, and what each answers
archiver queries show failed_logins                  # one: parameters, columns, SQL
archiver query failed_logins --help                  # the same, as options
archiver query failed_logins --since 7d --at-least 20
archiver query failed_logins --workspace ws_1a2b3c4d --format csv --output failed.csv
archiver query failed_logins --as-of 2026-03-26      # of the archive as it was then
archiver query failed_logins --since 7d --print --dialect athena
```

- **Times** are dates (`2026-03-26`), instants (`2026-03-26T10:15:00Z`) or how long ago (`30m`, `24h`, `7d`,
  `2w`), in UTC where no zone is told. `--since` is included, `--until` is not. `ARCHIVER_SINCE`,
  `ARCHIVER_UNTIL` and `ARCHIVER_WORKSPACE` set them for all queries that have them. Other parameters have no
  variable: an answer should not depend on what a shell remembers of another question.
- **Formats** are `table`, `csv`, `json`, `jsonl`, `markdown` and `parquet`, by `--format` or by the name of
  `--output`. Nothing cuts an answer unless the query has a parameter that says so.
- **Drawings**: on a terminal, a table of two rows or more is followed by bars or lines where the query's
  header asks for them. `--no-draw` leaves them out, `--draw` draws into a pipe or a file as well. With
  `NO_COLOR`, `TERM=dumb` or an encoding without block characters, they are made of ASCII.
- **What an answer is worth**: it is about one commit, which `--json` and `--verbose` name with its digest. It
  is read from the files as they lie there; that nobody altered them is proven by
  `archiver verify --expect SEQUENCE:DIGEST` with these two. `archiver explain ID` says where an event of the
  answer came from.
- **Other engines**: `--print` prints the statement with its values, `--dialect` says for which engine:
  athena, trino, spark, bigquery or duckdb. No archive is opened.
- **Completion** of names, parameters and values: `eval "$(_ARCHIVER_COMPLETE=bash_source archiver)"`,
  likewise for zsh and fish.

## Asking from Python

```python
import archiver

archive = archiver.open("s3://audit-archive/production", queries=["my-queries"])
failed = archive.query("failed_logins", since="7d", at_least=20)
failed.show()
failed.pl()      # a polars frame; .arrow() and .df() give the rows to Arrow and pandas
```

Parameters are named as below. A time may be a text as on the command line, a `datetime` or a `date`.

## Writing one's own

A query of one's own is a file in a folder that `--queries DIR` names (several times), `ARCHIVER_QUERIES`
(folders parted by `:`), or the configuration:

```toml
[queries]
folders = ["my-queries"]   # relative to this file
```

The file's name is that of the query: lower-case letters, digits and `_`, and `.sql`. A file with the name of
a query that came with the program takes its place, and `archiver queries` says so. A file that is no query
is listed with its problem.

The header is comment lines before the statement:

| line | means |
|---|---|
| `-- title: …` | what it is called |
| `-- answers: …` | the question |
| `-- when: …` | when to ask it |
| `-- topic: …` | what it is listed under; may be left out |
| `-- param name TYPE default meaning` | a parameter; its default is a number, `'a text'` or `NULL` |
| `-- param name INTEGER(1..500) default meaning` | a number with bounds; `DOUBLE(0..)` has one |
| `-- column name TYPE meaning` | a column of the answer, with DuckDB's name of its type |
| `-- draw: bars COLUMN` | draw a bar for each row; `by COLUMN` names them |
| `-- draw: sparkline COLUMN` | draw marks in the order of time; `by COLUMN` for a line each |

The topics of the program's own queries are {topics}. Types of parameters:

| type | values |
|---|---|
{types}

A parameter stands in the statement as `$name`; each must, and no other may. A query with `since` and `until`
may use `$since_day` and `$until_day` too, their days in UTC as texts: `dt` is the partition column, and a
filter on it lets other engines read fewer files. A boolean `is_x` becomes the options `--is-x` and
`--no-is-x`. What options of the program are called, no parameter may be called: {options}.

For example, `my-queries/logins_without_second_factor.sql`:

```sql
{example}```

The statement may read the views `events`, `alerts`, `supplements`, `quarantine` and `commits`, and nothing
else: `archiver sql "DESCRIBE events"` names the columns.
[Decision 11](decisions/0011-what-a-statement-may-do.md) tells what a statement may do.
"""


def reference(catalog: Catalog) -> str:
    """Return docs/queries.md for the queries of a catalog."""
    filled = {
        "topics": _listed(TOPICS, quote=""),
        "types": "\n".join(f"| `{kind}` | {told} |" for kind, told in TYPES.items()),
        "options": _listed(sorted(OPTIONS), quote="`"),
        "example": EXAMPLE,
    }
    parts = [re.sub(r"\{(\w+)\}", lambda found: filled[found[1]], _ASKING).rstrip("\n")]
    for topic, entries in by_topic(catalog.entries()).items():
        queries = [entry.query for entry in entries if entry.query is not None]
        parts.append(f"## {_text(topic)}")
        parts.append(
            "\n".join(f"- [`{query.name}`](#{query.name}): {_text(query.answers)}" for query in queries)
        )
        parts += ["\n\n".join(_section(query)) for query in queries]
    return "\n\n".join(parts) + "\n"


def _section(query: Query) -> Iterator[str]:
    yield f"### {query.name}"
    yield f"{_text(query.title)}. {_text(query.answers)}"
    yield f"*When:* {_text(query.when)}"
    if query.parameters:
        rows = [
            f"| `{one.name}` | {f'{one.kind} {one.extent}'.rstrip()} | {_code(one.default_text)} "
            f"| {_text(one.told)} |"
            for one in query.parameters
        ]
        yield "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows])
    if query.columns:
        rows = [f"| `{one.name}` | {one.kind} | {_text(one.told)} |" for one in query.columns]
        yield "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])
    if query.drawing is not None:
        by = f" by `{query.drawing.by}`" if query.drawing.by else ""
        kind = {DRAWINGS[0]: "bars", DRAWINGS[1]: "lines"}[query.drawing.kind]
        yield f"Drawn on a terminal: `{query.drawing.column}`{by}, as {kind}."


def _listed(words: Iterable[str], *, quote: str) -> str:
    return ", ".join(f"{quote}{word}{quote}" for word in words)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _text(text: str) -> str:
    """Return a text of a header as Markdown that shows it, in a cell of a table, too."""
    return re.sub(r"(?<!`)([\\*_<>|~])", r"\\\1", text) if "`" not in text else text.replace("|", "\\|")


def main() -> None:
    """Print the page."""
    sys.stdout.write(reference(Catalog()))


if __name__ == "__main__":
    main()
