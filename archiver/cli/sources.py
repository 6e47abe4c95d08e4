"""`archiver sources`: the configured databases; what the settings of one make of its rows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from archiver.cli.common import (
    EXIT_CODES,
    Context,
    archive_options,
    option_with_variable,
    printable,
    settings_options,
)
from archiver.cli.passing import Passing
from archiver.cli.text import plural, seconds_text
from archiver.errors import ArchiveNotFoundError, ConfigError

if TYPE_CHECKING:
    from archiver.config import Settings
    from archiver.database.settings import Database
    from archiver.inspect_source import Inspection

_SIGNS: Final = {"ok": "ok", "warning": "WARN", "failed": "REFUSED", "skipped": "-"}
_LONGEST_BODY: Final = 400
_MANY: Final = 1_000_000

_INSPECT_CODES: Final = """\
\b
Exit codes: 0 a run could begin · 1 the database cannot be read · 2 usage, or the
settings are refused · 3 a run could begin, and some of the rows shown would be
quarantined · 10 no archive there · 20 stored bytes differ from the ledger
"""


@click.group("sources", cls=Passing, epilog=EXIT_CODES)
def sources_group() -> None:
    """The databases under [sources]: list them; try one out before anything is archived."""


@sources_group.command("list", epilog=EXIT_CODES)
@settings_options
def list_command(context: Context) -> None:
    """List the configured databases, and whether their URLs are there. Connects to none."""
    listed = [_listed(one) for one in context.settings.sources.values()]
    if not listed:
        raise ConfigError(
            "no database is configured", hint="name one under [sources.NAME]; docs/database.md shows how"
        )
    rows = [("name", "reads", "strategy", "url"), *(tuple(map(str, one.values())) for one in listed)]
    context.out("\n".join(_table(rows)), {"message_type": "sources", "sources": listed})


def _listed(source: Database) -> dict[str, Any]:
    if source.url_env is not None:
        is_set = bool(os.environ.get(source.url_env, "").strip())
        told = f"in {source.url_env}" + ("" if is_set else ", which is not set")
    else:
        is_there = Path(source.url_file or "").is_file()
        told = f"in {source.url_file}" + ("" if is_there else ", which is not there")
    return {
        "name": source.name,
        "reads": source.table if source.table is not None else "a query",
        "strategy": source.strategy,
        "url": told,
    }


@sources_group.command("inspect", epilog=_INSPECT_CODES)
@archive_options
@click.argument("name")
@option_with_variable(
    "--rows",
    prefix="INSPECT_",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="How many rows to try.",
)
@option_with_variable(
    "--last", prefix="INSPECT_", is_flag=True, help="The last rows, newest first, and not the first ones."
)
@option_with_variable(
    "--format",
    "form",
    prefix="INSPECT_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json is the same as --json.",
)
@click.pass_context
def inspect_command(
    click_context: click.Context, /, context: Context, name: str, rows: int, last: bool, form: str
) -> None:
    """Show what the settings of [sources.NAME] make of its rows, before anything is archived.

    Connects, says what would be refused and why, which column becomes what, and judges some rows
    as a run would. Writes nothing. An archive is not needed; with one, its cursor is held
    against the database.
    """
    from archiver.inspect_source import inspect_source
    from archiver.runs import rules_of

    source = source_of(context.settings, name)
    context = replace(context, json=context.json or form == "json")
    found = inspect_source(source, rules_of(context.settings, name), _archive(context), rows=rows, last=last)
    context.out(inspection_text(found), found.to_json())
    click_context.exit(found.exit_code)


def source_of(settings: Settings, name: str) -> Database:
    """Return the settings of one database.

    Raises:
        ConfigError: There is none of this name.
    """
    try:
        return settings.sources[name]
    except KeyError:
        known = ", ".join(settings.sources) or "none"
        raise ConfigError(
            f"there is no [sources.{name}] (configured: {known})",
            hint="--config FILE names the configuration; docs/database.md shows one",
        ) from None


def _archive(context: Context) -> Any:
    if context.settings.archive is None:
        return None
    try:
        return context.open_archive()
    except ArchiveNotFoundError:
        return None  # it may be made when all is well here


def inspection_text(found: Inspection) -> str:
    """Return it for people."""
    look = found.look
    lines: list[str] = []
    for check in look.checks:
        what = check.name.partition(": ")[2]
        lines.append(f"{_SIGNS[check.status]:<8}{_one_line(what)}: {_one_line(check.found)}")
        if check.fix and check.status != "ok":
            lines.append(f"        → {_one_line(check.fix)}")
    if look.strategy:
        keeps, misses = found.keeps()
        lines += [
            "",
            f"strategy     {look.strategy}: {keeps}",
            f"covers not   {_one_line(misses)}",
            f"order        {_one_line(', '.join((look.position, *look.key)))}",
        ]
    if look.estimate is not None:
        lines.append(f"rows         about {look.estimate:,}")
    lines += _cursor_lines(found)
    if found.places:
        lines += ["", *_table([("member", "column", "type", "written as", "goes to"), *_places(found)])]
        if look.left_out:
            lines.append(f"left out: {_one_line(', '.join(look.left_out))}")
    if found.rows:
        which = "the last, newest first" if found.is_last else "the first"
        lines += ["", f"{plural(len(found.rows), 'row')}, {which if look.is_ordered else 'in no order'}"]
        for row in found.rows:
            body = _one_line(row.body.decode("utf-8", "replace"))
            body = body if len(body) <= _LONGEST_BODY else f"{body[:_LONGEST_BODY]}… (--json has all)"
            if row.outcome == "archived":
                lines.append(f"valid        {body}")
            else:
                lines.append(f"QUARANTINED  {row.reason}: {_one_line(row.detail)}")
                lines.append(f"             {body}")
    lines += ["", _verdict(found)]
    return "\n".join(lines)


def _cursor_lines(found: Inspection) -> list[str]:
    look, known = found.look, found.reached
    lines: list[str] = []
    if known is None and not look.strategy:
        return lines
    if known is None:
        lines.append("cursor       no archive was named, or there is none yet")
    elif known.said is None:
        lines.append("cursor       none in the archive: a run begins with the first row")
    else:
        lines.append(
            f"cursor       {_one_line(known.position or known.problem)}{moved_text(known.to_json())}"
        )
    if look.behind is not None:
        behind, waiting = look.behind
        more = "at least " if behind >= _MANY else ""
        lines.append(f"behind it    {more}{plural(behind, 'row')}, {waiting:,} of which may not be read yet")
    if look.bound is not None and look.held_back_by:
        lag = f" ({seconds_text(look.bound.lag_seconds)})" if look.bound.lag_seconds > 0 else ""
        lines.append(f"held back    {_one_line(look.held_back_by)}{lag}")
    return lines


def moved_text(told: dict[str, Any]) -> str:
    """Return when a cursor last moved, to stand behind its position."""
    if told["moved_at"] is None:
        return ", last moved more than 50 commits ago"
    return f", last moved by commit {told['commit']} at {told['moved_at']}"


def _places(found: Inspection) -> list[tuple[str, ...]]:
    return [
        (one.member, "(constant)" if one.column is None else one.column, one.type, one.kind, one.goes_to)
        for one in found.places
    ]


def _verdict(found: Inspection) -> str:
    refused = len(found.look.errors)
    if refused:
        return f"{plural(refused, 'refusal')}: a run would archive nothing of this source"
    bad = sum(row.outcome == "quarantined" for row in found.rows)
    if bad:
        return f"a run can begin; {bad} of these {len(found.rows)} rows would be quarantined"
    return "a run can begin"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return columns of text, each as wide as its widest cell."""
    cells = [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _one_line(text: str) -> str:
    """Return text that a database or an event may have made, as one line that a terminal can show."""
    return printable(text).replace("\n", json.dumps("\n")[1:-1])
