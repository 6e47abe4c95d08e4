"""`archiver sql`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, as_of_option
from archiver.cli.target import open_target
from archiver.errors import ConfigError

_FORMATS = ["table", "csv", "json", "jsonl", "markdown", "parquet"]


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
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    envvar="ARCHIVER_FORMAT",
    show_envvar=True,
    help="Default: by the name of --output, else table.",
)
@click.option(
    "--output",
    "-o",
    envvar="ARCHIVER_OUTPUT",
    show_envvar=True,
    metavar="FILE",
    help="Write there; it appears when it is whole.",
)
@click.option(
    "--raw",
    envvar="ARCHIVER_RAW",
    show_envvar=True,
    is_flag=True,
    help="CSV: leave texts that look like formulas as they are.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    envvar="ARCHIVER_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="Give up after so long.",
)
@click.option(
    "--limit-memory",
    default="1GB",
    envvar="ARCHIVER_LIMIT_MEMORY",
    show_envvar=True,
    show_default=True,
    metavar="SIZE",
    help="What the statement may take.",
)
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
    form: str | None,
    output: str | None,
    raw: bool,
    timeout: float | None,
    limit_memory: str,
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

    A statement can read these views and nothing else. `-` instead of a statement reads it
    from stdin. Data files are read as they lie there: that nobody altered them is what
    `archiver verify` (and export, file by file) proves.

    In an archive of very many files, name workspace_id and event_time in the WHERE, compared
    with constants; or leave files out with --workspace, --since and --until. They leave out
    whole files: a file that can hold such events is read with all its rows.
    """
    from archiver import clock
    from archiver.cli.times import parse_when
    from archiver.query.output import write_answer
    from archiver.query.session import limited_memory, open_session

    text = _statement(statement, file)
    chosen = _format(form, output, as_json=context.json)
    archive = context.open_archive()
    with limited_memory(limit_memory):
        session = open_session(
            archive,
            memory_limit=limit_memory,
            timeout_seconds=timeout,
            workspaces=workspaces or None,
            since_us=None if since is None else parse_when(since, clock.now_us()),
            until_us=None if until is None else parse_when(until, clock.now_us()),
        )
        answer = session.sql(text)
        document = {"message_type": "answer", "sequence": session.sequence} if context.json else None
        on_terminal = output is None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else None
        with answer, open_target(output, archive.store) as stream:
            count = write_answer(answer, chosen, stream, raw=raw, width=width, document=document)  # type: ignore[arg-type]
    if on_terminal and chosen == "table" and not context.quiet:
        click.echo(f"({count:,} row{'' if count == 1 else 's'})", err=True)


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


def _format(form: str | None, output: str | None, *, as_json: bool) -> str:
    if as_json:
        if form not in (None, "json"):
            raise click.UsageError("--json is a format of its own: leave out --format")
        return "json"
    if form is None:
        suffix = os.path.splitext(output or "")[1].lstrip(".").replace("md", "markdown")  # noqa: PTH122
        return suffix if suffix in _FORMATS else "table"
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal: give --output, or a pipe")
    return form
