"""What `sql` and `query` share: how an answer is limited, formed and written."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from archiver.cli.common import Context, option_with_variable
from archiver.cli.target import open_target
from archiver.clock import to_text, to_us
from archiver.errors import ConfigError, QueryError

if TYPE_CHECKING:
    from archiver.query.catalog import Query
    from archiver.query.drawing import Style

log = logging.getLogger(__name__)
FORMATS: Final = ("table", "csv", "json", "jsonl", "markdown", "parquet")
_WIDTH_OF_FILES: Final = 100


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
    query: Query | None = None,
    draw: bool | None = None,
    **narrow: Any,
) -> None:
    """Ask one statement and write its answer where it is wanted.

    Args:
        query: The named query that the statement is of: errors and documents name it.
        draw: Whether to draw below a table what its header says; None is where a person looks.
        narrow: What `open_session` takes to leave files out.
    """
    chosen = _format(form, output, as_json=context.json)
    since_us, until_us = narrow.get("since_us"), narrow.get("until_us")
    if since_us is not None and until_us is not None and since_us > until_us:
        raise ConfigError("--since is after --until", hint="the time asked for begins at --since")
    from archiver.query.session import limited_memory, open_session, prepare

    prepare()
    archive = context.open_archive()
    on_terminal = output is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    is_drawn = chosen == "table" and (on_terminal if draw is None else draw)
    drawing = query.drawing if query is not None and is_drawn else None
    from archiver.query.output import write_answer

    with limited_memory(limits.memory), _naming(query):
        session = open_session(
            archive, memory_limit=limits.memory, timeout_seconds=limits.timeout_seconds, **narrow
        )
        answer = session.sql(statement, parameters)
        digest = archive.ledger.snapshot.digest
        document = _document(session.sequence, digest, query, parameters) if context.json else None
        sketch = None
        if drawing is not None:
            from archiver.query.drawing import Sketch

            sketch = Sketch(drawing, answer.schema)
            answer = sketch.watch(answer)
        with answer, open_target(output, archive.store) as stream:
            count = write_answer(answer, chosen, stream, raw=raw, width=width, document=document)  # type: ignore[arg-type]
            if sketch is not None:
                text = sketch.text(width or _WIDTH_OF_FILES, _style(output))
                stream.write(b"\n" * bool(text) + text.encode(errors="backslashreplace"))
    log.info(
        "this is of commit %d; what its files hold is proven by: archiver verify --expect %d:%s",
        session.sequence,
        session.sequence,
        digest,
    )
    if on_terminal and chosen == "table" and not context.quiet:
        click.echo(f"({count:,} row{'' if count == 1 else 's'})", err=True)


@contextlib.contextmanager
def _naming(query: Query | None) -> Iterator[None]:
    """Let what goes wrong in a named query say in which."""
    try:
        yield
    except QueryError as error:
        if query is None:
            raise
        raise QueryError(f"{query.name}: {error.message}", hint=error.hint) from error


def _style(output: str | None) -> Style:
    from archiver.query.drawing import Style

    return Style() if output is not None else Style.of(sys.stdout.encoding, os.environ)


def _document(
    sequence: int, digest: str, query: Query | None, parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"message_type": "answer", "sequence": sequence, "digest": digest}
    if query is not None:
        told = {
            name: to_text(to_us(value)) if isinstance(value, datetime) else value
            for name, value in (parameters or {}).items()
        }
        found |= {"query": query.name, "parameters": told}
    return found


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
