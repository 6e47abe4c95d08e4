"""`archiver sql`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final

import click

from archiver.cli.answering import Limits, answer_options, print_answer
from archiver.cli.common import (
    EXIT_CODES,
    Context,
    archive_options,
    as_of_option,
    option_with_variable,
    printable,
)
from archiver.errors import ConfigError

log = logging.getLogger(__name__)
DIALECTS: Final = ("duckdb", "athena", "trino", "spark", "bigquery")


@click.command("sql", epilog=EXIT_CODES)
@archive_options
@as_of_option
@click.argument("statement", required=False)
@click.option(
    "--file",
    "-f",
    "file",
    envvar="ARCHIVER_SQL_FILE",
    metavar="FILE",
    help="Read the statement from a file (- for stdin).",
)
@option_with_variable(
    "--dialect",
    prefix="SQL_",
    type=click.Choice(DIALECTS),
    default="duckdb",
    show_default=True,
    help="What the statement is written in; it is translated.",
)
@answer_options
@click.option(
    "--workspace",
    "workspaces",
    multiple=True,
    envvar="ARCHIVER_WORKSPACE",
    show_envvar=True,
    metavar="ID",
    help="Leave out files of other workspaces; several times.",
)
@click.option(
    "--since",
    envvar="ARCHIVER_SINCE",
    show_envvar=True,
    metavar="TIME",
    help="Leave out files whose events are all before this.",
)
@click.option(
    "--until",
    envvar="ARCHIVER_UNTIL",
    show_envvar=True,
    metavar="TIME",
    help="Leave out files whose events are all at or after this.",
)
def sql_command(
    context: Context,
    statement: str | None,
    file: str | None,
    dialect: str,
    form: str | None,
    output: str | None,
    raw: bool,
    limits: Limits,
    workspaces: tuple[str, ...],
    since: str | None,
    until: str | None,
) -> None:
    """Ask one question in SQL (DuckDB's) about the archive as it is now.

    \b
    Views: events, alerts, supplements, quarantine, commits. Times are in UTC.
      archiver sql "SELECT action, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC"
      archiver sql "DESCRIBE events"
      archiver sql --file question.sql --format csv --output answer.csv
      archiver sql --dialect athena "SELECT date_diff('day', min(event_time), now()) FROM logs.events"

    A statement can read these views and nothing else. `-` instead of a statement reads it
    from stdin. Data files are read as they lie there: that nobody altered them is what
    `archiver verify` (and export, file by file) proves.

    With --dialect, a SELECT that was written for Athena, Trino, Spark or BigQuery is translated:
    its functions, its division of whole numbers, and names such as "database"."events". What
    has no equal is named, and --verbose shows the translation. Times keep their microseconds,
    where Athena has milliseconds, and a time in another zone loses the zone's name.

    What a statement asks of workspace, dt, event_time and id, compared with constants, decides
    which files are read: name them, and years of other events cost nothing. --workspace,
    --since and --until leave out whole files besides: a file that can hold such events is read
    with all its rows.
    """
    from archiver import clock
    from archiver.times import parse_when

    now = clock.now_us()
    print_answer(
        context,
        _in_duckdb(_statement(statement, file), dialect),
        form=form,
        output=output,
        raw=raw,
        limits=limits,
        workspaces=workspaces or None,
        since_us=None if since is None else parse_when(since, now),
        until_us=None if until is None else parse_when(until, now),
    )


def _in_duckdb(statement: str, dialect: str) -> str:
    if dialect == "duckdb":
        return statement
    from archiver.query.dialect import from_dialect

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # what it warns of is refused, and named
    translated = from_dialect(statement, dialect)
    log.info("translated from %s: %s", dialect, printable(translated))
    return translated


def _statement(statement: str | None, file: str | None) -> str:
    if (statement is None) == (file is None):
        raise click.UsageError("give one statement, or --file")
    if "-" in (statement, file):
        return sys.stdin.read()
    if file is None:
        return statement or ""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
