"""What `sql` and `query` share: how an answer is limited, formed and written."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from archiver.cli.common import Context, option_with_variable
from archiver.cli.target import open_target

FORMATS: Final = ("table", "csv", "json", "jsonl", "markdown", "parquet")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a statement may take.

    Attributes:
        memory: A size such as `1GB`.
        timeout_seconds: None for as long as it takes.
    """

    memory: str
    timeout_seconds: float | None


def answer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options `form`, `output`, `raw` and `limits`."""

    @functools.wraps(function)
    def command(*args: Any, limit_memory: str, timeout: float | None, **rest: Any) -> Any:
        return function(*args, limits=Limits(limit_memory, timeout), **rest)

    for option in reversed(
        [
            option_with_variable(
                "--format",
                "form",
                type=click.Choice(FORMATS),
                help="Default: by the name of --output, else table.",
            ),
            option_with_variable(
                "--output", "-o", metavar="FILE", help="Write there; it appears when it is whole."
            ),
            option_with_variable(
                "--raw", is_flag=True, help="CSV: leave texts that look like formulas as they are."
            ),
            option_with_variable(
                "--timeout",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="Give up after so long.",
            ),
            option_with_variable(
                "--limit-memory",
                default="1GB",
                show_default=True,
                metavar="SIZE",
                help="What the statement may take.",
            ),
        ]
    ):
        command = option(command)
    return command


def print_answer(
    context: Context,
    statement: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    form: str | None,
    output: str | None,
    raw: bool,
    limits: Limits,
    **narrow: Any,
) -> None:
    """Ask one statement and write its answer where it is wanted.

    Args:
        narrow: What `open_session` takes to leave files out.
    """
    from archiver.query.output import write_answer
    from archiver.query.session import limited_memory, open_session

    chosen = _format(form, output, as_json=context.json)
    archive = context.open_archive()
    with limited_memory(limits.memory):
        session = open_session(
            archive, memory_limit=limits.memory, timeout_seconds=limits.timeout_seconds, **narrow
        )
        answer = session.sql(statement, parameters)
        document = {"message_type": "answer", "sequence": session.sequence} if context.json else None
        on_terminal = output is None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else None
        with answer, open_target(output, archive.store) as stream:
            count = write_answer(answer, chosen, stream, raw=raw, width=width, document=document)  # type: ignore[arg-type]
    if on_terminal and chosen == "table" and not context.quiet:
        click.echo(f"({count:,} row{'' if count == 1 else 's'})", err=True)


def _format(form: str | None, output: str | None, *, as_json: bool) -> str:
    if as_json:
        if form not in (None, "json"):
            raise click.UsageError("--json is a format of its own: leave out --format")
        return "json"
    if form is None:
        suffix = os.path.splitext(output or "")[1].lstrip(".").replace("md", "markdown")  # noqa: PTH122
        return suffix if suffix in FORMATS else "table"
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal: give --output, or a pipe")
    return form
