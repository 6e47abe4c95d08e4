"""`archiver deadletters list / show / resend / delete`."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import (
    Context,
    destinations_beginning,
    option_with_variable,
    printable,
    settings_options,
)
from archiver.cli.text import plural
from archiver.errors import ArchiverError, ConfigError

if TYPE_CHECKING:
    from archiver.forward.deadletters import DeadLetters, Letter
    from archiver.forward.resend import ResendReport

_CODES = """\
\b
Exit codes: 0 done · 1 failed, or letters that should go are still there · 2 usage or
configuration · 130 interrupted
"""
_MOST_SHOWN = 10_000


@click.group("deadletters", epilog=_CODES)
def deadletters_group() -> None:
    """What a destination refused: list it, show it, send it again, or give it up.

    The events are archived like all others; a dead letter only says that one destination
    does not have one. Each has a name, which `list` tells.
    """


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `settings_options`, with the option that stands in for a spool of the configuration."""
    spool = option_with_variable(
        "--spool",
        "spools",
        multiple=True,
        metavar="DIR",
        help="Folder with deliveries, instead of the file's.",
    )
    return settings_options(spool(function))


def _which(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        option_with_variable("--dry-run", is_flag=True, help="Only count them."),
        option_with_variable("--all", "everything", is_flag=True, help="Every letter of the destination."),
        click.argument("letters", nargs=-1, metavar="[LETTER]..."),
        click.argument("name", metavar="NAME", shell_complete=destinations_beginning),
    ):
        function = option(function)
    return function


@deadletters_group.command("list", epilog=_CODES)
@_settings
@click.argument("name", required=False, metavar="[NAME]", shell_complete=destinations_beginning)
@option_with_variable(
    "--limit",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many of each destination to show; they are counted all the same.",
)
def list_command(context: Context, name: str | None, spools: tuple[str, ...], limit: int) -> None:
    """List dead letters, the oldest first: name, event, why, and what the destination said."""
    from itertools import islice

    lines: list[str] = []
    documents = []
    for one in [name] if name is not None else _names(_state(context, spools)):
        letters = _letters_of(context, spools, one)
        count, is_complete = letters.count()
        shown = list(islice(letters.letters(), limit))
        documents.append(
            {
                "destination": one,
                "count": count,
                "count_is_complete": is_complete,
                "letters": [_document(letter) for letter in shown],
                "problems": letters.problems,
            }
        )
        more = "" if is_complete else "more than "
        lines.append(f"{one}: {more}{plural(count, 'dead letter')}")
        for letter in shown:
            lines += _listed(letter)
        if count > len(shown):
            lines.append(f"  … and {count - len(shown):,} more (--limit)")
        lines += [f"  PROBLEM {problem}" for problem in letters.problems]
    if not lines:
        lines = ["no dead letters"]
    elif any(document["letters"] for document in documents):
        lines.append("\nlook at one: archiver deadletters show NAME LETTER")
    context.out(printable("\n".join(lines)), {"message_type": "deadletters_list", "destinations": documents})


@deadletters_group.command("show", epilog=_CODES)
@_settings
@click.argument("name", metavar="NAME", shell_complete=destinations_beginning)
@click.argument("letter", metavar="LETTER")
@option_with_variable(
    "--body", is_flag=True, help="Print the body as it was delivered, byte for byte, and nothing else."
)
def show_command(context: Context, name: str, letter: str, spools: tuple[str, ...], body: bool) -> None:
    """Show one dead letter: the event as it was delivered, and what NAME said of it."""
    found = _letters_of(context, spools, name).find(letter)
    if found is None:
        raise ArchiverError(
            f"{letter!r:.40}: no dead letter of {name}", hint=f"see `archiver deadletters list {name}`"
        )
    if body:
        sys.stdout.buffer.write(found.event.body)
        return
    told = {"destination": name, **_document(found)}
    lines = [
        f"{key:<14}{printable(_short(str(value), _MOST_SHOWN))}" for key, value in told.items() if value != ""
    ]
    text = found.event.body.decode(errors="backslashreplace")
    lines += ["", printable(text[:_MOST_SHOWN]) + (" …" if len(text) > _MOST_SHOWN else "")]
    try:
        told["body"] = found.event.body.decode()
    except UnicodeDecodeError:
        told["body_base64"] = base64.b64encode(found.event.body).decode()
    context.out("\n".join(lines), {"message_type": "deadletter", **told})


@deadletters_group.command("resend", epilog=_CODES)
@_settings
@_which
@click.pass_context
def resend_command(
    click_context: click.Context,
    /,
    context: Context,
    name: str,
    letters: tuple[str, ...],
    spools: tuple[str, ...],
    everything: bool,
    dry_run: bool,
) -> None:
    """Send dead letters again, once the cause is mended: by today's settings and filters.

    What NAME takes now is a dead letter no more; what it refuses again stays, with the new
    answer. May run beside `archiver forward`. An interruption may send some of them twice.
    """
    from archiver.forward.outlet import destination_of
    from archiver.forward.resend import resend

    chosen = _chosen(letters, everything=everything)
    report = resend(
        destination_of(context.settings, name),
        _letters_of(context, spools, name),
        chosen,
        dry_run=dry_run,
        progress=context.progress,
    )
    context.out(printable(_resent(report)), report.to_json())
    click_context.exit(0 if dry_run or report.is_complete else 1)


@deadletters_group.command("delete", epilog=_CODES)
@_settings
@_which
def delete_command(
    context: Context,
    name: str,
    letters: tuple[str, ...],
    spools: tuple[str, ...],
    everything: bool,
    dry_run: bool,
) -> None:
    """Give dead letters up: NAME never gets these events, unless they are replayed.

    Archive, spool and every other destination stay as they are.
    """
    from archiver.forward.resend import give_up

    chosen = _chosen(letters, everything=everything)
    count = give_up(_letters_of(context, spools, name), chosen, dry_run=dry_run)
    would = "would be " if dry_run else ""
    context.out(
        f"{plural(count, 'dead letter')} of {name} {would}deleted",
        {"message_type": "deadletters_delete", "destination": name, "dry_run": dry_run, "deleted": count},
    )


def _state(context: Context, spools: tuple[str, ...]) -> Path:
    from dataclasses import replace

    settings = replace(context.settings, spools=spools) if spools else context.settings
    return settings.forward_folder


def _names(state: Path) -> list[str]:
    """Return the destinations that have, or had, dead letters, also those configured no more."""
    from archiver.forward.deadletters import FOLDER
    from archiver.streams import NAME

    try:
        found = [one.name for one in state.iterdir() if NAME.fullmatch(one.name) and (one / FOLDER).is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ArchiverError(f"{state}: cannot be listed: {error.strerror}") from error
    return sorted(found)


def _letters_of(context: Context, spools: tuple[str, ...], name: str) -> DeadLetters:
    """Return the dead letters of a destination that is configured, or has some.

    Raises:
        ConfigError: There is no such destination.
    """
    from archiver.forward.deadletters import FOLDER, DeadLetters

    state = _state(context, spools)
    known = _names(state)
    if name not in known and name not in context.settings.destinations:
        names = sorted({*known, *context.settings.destinations})
        raise ConfigError(
            f"there is no destination {name!r:.80}", hint=f"known: {', '.join(names) or 'none'}"
        )
    return DeadLetters(state / name / FOLDER)


def _chosen(letters: tuple[str, ...], *, everything: bool) -> tuple[str, ...] | None:
    if everything and letters:
        raise ConfigError("letters, and --all: give one of them")
    if not (everything or letters):
        raise ConfigError("nothing was chosen", hint="give the names of letters, or --all")
    return None if everything else letters


def _document(letter: Letter) -> dict[str, Any]:
    from archiver import clock

    event = letter.event
    return {
        "letter": letter.id,
        "reason": letter.reason,
        "answer": letter.answer,
        "attempts": letter.attempts,
        "first_at": clock.to_text(clock.nearest(letter.first_at)),
        "dataset": event.dataset,
        "event_id": event.id,
        "workspace_id": event.workspace,
        "event_type": event.event_type,
        "action": event.action,
        "event_time": clock.to_text(clock.nearest(event.at_us)),
        "received_at": clock.to_text(clock.nearest(event.received_us)),
        "bytes": len(event.body),
    }


def _listed(letter: Letter) -> list[str]:
    told = _document(letter)
    what = " ".join(_short(told[key]) for key in ("action", "workspace_id", "event_id") if told[key])
    times = f", {letter.attempts} times" if letter.attempts > 1 else ""
    return [
        f"  {letter.id}  {told['first_at'][:19]}Z  {what}",
        f"      {letter.reason}{times}: {_short(letter.answer, 160)}",
    ]


def _short(text: str, most: int = 60) -> str:
    """Return a text as a part of a line; what else it may hold is for `printable`."""
    line = text.replace("\n", "\\n")
    return line if len(line) <= most else f"{line[:most]}…"


def _resent(report: ResendReport) -> str:
    if report.dry_run:
        lines = [f"{plural(report.taken, 'dead letter')} of {report.destination} would be sent"]
    else:
        lines = [f"{report.destination}: {report.taken:,} of {plural(report.chosen, 'dead letter')} taken"]
    if report.refused:
        lines.append(f"  {report.refused:,} refused again, and still there")
    if report.unwanted:
        lines.append(f"  {report.unwanted:,} not wanted by today's filters, and left")
    if report.stopped:
        lines.append(f"  stopped: {report.stopped}")
    return "\n".join(lines + [f"  PROBLEM {problem}" for problem in report.problems])
