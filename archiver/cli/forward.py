"""`archiver forward`."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import (
    Context,
    archive_options,
    destinations_beginning,
    option_with_variable,
    printable,
)
from archiver.cli.text import bytes_text, plural
from archiver.errors import ArchiverError, ConfigError

if TYPE_CHECKING:
    from archiver.forward.replay import Estimate
    from archiver.forward.run import Forwarded

_CODES = """\
\b
Exit codes: 0 all that was there is taken · 1 a destination failed: what it did not take
waits, and is sent the next time · 2 usage or configuration · 3 done, but some events
became dead letters · 10 no archive there · 20 stored bytes differ from the ledger ·
130 interrupted
"""


@click.command("forward", epilog=_CODES)
@archive_options
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=destinations_beginning)
@option_with_variable(
    "--spool", "spools", multiple=True, metavar="DIR", help="Folder with deliveries, instead of the file's."
)
@option_with_variable(
    "--follow", prefix="FORWARD_", is_flag=True, help="Go on: an event is on its way within seconds."
)
@option_with_variable(
    "--give-up-after",
    prefix="FORWARD_",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="Without --follow: end when a destination has failed for so long. Default 60.",
)
@option_with_variable(
    "--test", "tries", prefix="FORWARD_", is_flag=True, help="Send one synthetic event; explain the answer."
)
@option_with_variable(
    "--replay", prefix="FORWARD_", is_flag=True, help="Send what is archived, and not what is new."
)
@option_with_variable(
    "--since", metavar="WHEN", help="Replay: at or after: 2026-03-26, 2026-03-26T10:15:00Z, or 7d back."
)
@option_with_variable("--until", metavar="WHEN", help="Replay: before.")
@option_with_variable(
    "--action", "actions", multiple=True, metavar="PATTERN", help="Replay: only such actions, as 'auth.*'."
)
@option_with_variable(
    "--workspace", "workspaces", multiple=True, metavar="NAME", help="Replay: only of this workspace."
)
@option_with_variable(
    "--event-type",
    "event_types",
    prefix="FORWARD_",
    multiple=True,
    metavar="TYPE",
    help="Replay: only such events.",
)
@option_with_variable(
    "--max-per-second",
    prefix="FORWARD_",
    type=click.IntRange(1, 10_000_000),
    metavar="EVENTS",
    help="Replay: not faster than this.",
)
@option_with_variable(
    "--restart", prefix="FORWARD_", is_flag=True, help="Replay: from the beginning, not where it was ended."
)
@option_with_variable(
    "--dry-run", prefix="FORWARD_", is_flag=True, help="Replay: only say how much it would be."
)
@click.pass_context
def forward_command(
    click_context: click.Context,
    /,
    context: Context,
    names: tuple[str, ...],
    spools: tuple[str, ...],
    follow: bool,
    give_up_after: float | None,
    tries: bool,
    replay: bool,
    **replaying: Any,
) -> None:
    """Send events on to Splunk, Datadog, Elastic, Logstash or any URL: [destinations.NAME].

    Without NAME to all destinations, each by itself: one that is down holds up no other.
    Sends what waits and ends, for cron; with --follow it stays. What a destination did not
    acknowledge is sent again; what it refuses becomes a dead letter (`archiver deadletters`),
    and stops nothing. docs/siem.md has a page for each product.

    \b
      archiver forward siem --test                       one marked event, and what came of it
      archiver forward                                   every minute, from cron
      archiver forward --follow                          as a service
      archiver forward siem --replay --since 30d --action 'auth.*' --dry-run
    """
    _check_usage(names, follow=follow, tries=tries, replay=replay, replaying=replaying)
    if spools:
        context.settings = replace(context.settings, spools=spools)
    if not context.settings.destinations:
        raise ConfigError(
            "no destination is configured", hint="name one under [destinations.NAME]; docs/siem.md shows how"
        )
    if tries:
        click_context.exit(_try(context, names[0]))
    untold: ArchiverError | None = None
    with _until_stopped() as stop:
        if replay:
            result = _replay(context, names[0], stop, give_up_after=give_up_after, **replaying)
            if result is None:
                return
            results = [result]
        else:
            results, untold = _forward(context, names, stop, follow=follow, give_up_after=give_up_after)
    document = {"message_type": "forward_report", "destinations": [one.to_json() for one in results]}
    context.out("\n".join(map(_told, results)), document)
    # Without --follow one that is not complete, and did not fail, was ended by SIGTERM. A replay that another
    # process is at was asked for once, and is not done; what is new is looked at again in a minute.
    codes = [
        one.exit_code or int(not (follow or one.is_complete or (one.is_busy and not replay)))
        for one in results
    ]
    failed = [code for code in codes if code != 3]
    if untold is not None and not max(failed, default=0):
        if context.json:  # which is one document, and that is printed
            click.echo(printable(f"error: {untold.message}"), err=True)
            click_context.exit(untold.exit_code)
        raise untold
    click_context.exit(max(failed, default=0) or max(codes, default=0))


def _check_usage(
    names: Sequence[str], *, follow: bool, tries: bool, replay: bool, replaying: dict[str, Any]
) -> None:
    if follow + tries + replay > 1:
        raise click.UsageError("--follow, --test and --replay exclude each other")
    if (tries or replay) and len(names) != 1:
        raise click.UsageError(f"--{'test' if tries else 'replay'} needs one NAME")
    given = [name for name, value in replaying.items() if value]
    # A variable such as ARCHIVER_SINCE is for many commands; only flags are held against --replay.
    context = click.get_current_context()
    for name in given:
        if not replay and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise click.UsageError(f"{option} is for --replay")


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and Ctrl-C set: what is on its way is still settled."""
    stop = threading.Event()
    interrupted: list[int] = []

    def end(number: int, _: object) -> None:
        if interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupted.append(number)
        stop.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if signal.SIGINT in interrupted:
        raise KeyboardInterrupt


def _try(context: Context, name: str) -> int:
    from archiver.forward.outlet import destination_of
    from archiver.forward.trial import trial, trial_text

    found = trial(destination_of(context.settings, name))
    context.out(trial_text(found), found.to_json())
    return found.exit_code


def _forward(
    context: Context,
    names: tuple[str, ...],
    stop: threading.Event,
    *,
    follow: bool,
    give_up_after: float | None,
) -> tuple[list[Forwarded], ArchiverError | None]:
    """Return what became of each destination, and what kept the metrics from being written."""
    from archiver.forward.metrics import MetricsFile
    from archiver.forward.run import forward
    from archiver.forward.sending import Policy

    policy = Policy() if give_up_after is None or follow else Policy(give_up_after=give_up_after)
    file = context.settings.forward_metrics_file
    metrics = None if file is None else MetricsFile(Path(file), context.settings, context.open_archive)
    progress, shown = context.progress, 0
    progress.start("forwarding", None)

    def watch(results: Sequence[Forwarded]) -> None:
        nonlocal shown
        if metrics is not None:
            metrics.look()
        now = sum(one.tally.taken + one.tally.dead for one in results)
        progress.advance(rows=now - shown)
        shown = now

    try:
        results = forward(
            context.settings,
            list(dict.fromkeys(names)) or list(context.settings.destinations),
            context.open_archive,
            follow=follow,
            policy=policy,
            stop=stop,
            watch=watch,
        )
    finally:
        progress.finish()
    try:
        if metrics is not None:
            metrics.write()
    except ArchiverError as error:
        return results, error
    return results, None


def _replay(
    context: Context,
    name: str,
    stop: threading.Event,
    *,
    give_up_after: float | None,
    since: str | None,
    until: str | None,
    actions: tuple[str, ...],
    workspaces: tuple[str, ...],
    event_types: tuple[str, ...],
    max_per_second: int | None,
    restart: bool,
    dry_run: bool,
) -> Forwarded | None:
    """Say how much it would be, and do it; None after a dry run, which prints its own document."""
    from archiver import clock
    from archiver.forward.intakes import intake_of
    from archiver.forward.outlet import destination_of
    from archiver.forward.replaying import estimate, replay, scope_of, warnings_of
    from archiver.forward.sending import Policy
    from archiver.forward.wanted import Wanted
    from archiver.times import parse_when

    destination = destination_of(context.settings, name)
    now = clock.now_us()
    scope = scope_of(
        since_us=None if since is None else parse_when(since, now),
        until_us=None if until is None else parse_when(until, now),
        actions=actions,
        workspaces=workspaces,
        event_types=event_types,
        words=(since, until),
    )
    archive = context.open_archive()
    found = estimate(destination, archive, scope)
    warnings = warnings_of(destination, intake_of(destination), found, now)
    is_filtered = bool(actions or event_types) or not Wanted.of(destination).is_everything
    told = [
        _estimate_text(name, found, is_filtered=is_filtered),
        *(printable(f"warning: {one}") for one in warnings),
    ]
    if dry_run:
        document = {"message_type": "replay_estimate", "destination": name, **found.to_json()}
        context.out("\n".join(told), document | {"warnings": warnings})
        return None
    if not context.quiet:
        click.echo("\n".join(told), err=True)
    progress, shown = context.progress, 0
    progress.start(f"replaying to {name}", None, found.events)

    def watch(one: Forwarded) -> None:
        nonlocal shown
        reached = one.tally.taken + one.tally.dead + one.tally.filtered
        progress.advance(rows=reached - shown)
        shown = reached

    try:
        return replay(
            context.settings,
            destination,
            archive,
            scope,
            restart=restart,
            policy=Policy() if give_up_after is None else Policy(give_up_after=give_up_after),
            stop=stop,
            watch=watch,
            note=lambda told: click.echo(printable(told), err=True),
            max_per_second=max_per_second,
        )
    finally:
        progress.finish()


def _estimate_text(name: str, found: Estimate, *, is_filtered: bool) -> str:
    from archiver import clock

    if not found.events or found.oldest_us is None or found.newest_us is None:
        return printable(f"{name}: nothing to replay: the archive has no such events")
    return printable(
        f"{name}: at most {plural(found.events, 'event')} of {plural(len(found.days), 'day')},"
        f" {clock.to_text(found.oldest_us)} to {clock.to_text(found.newest_us)},"
        f" in {plural(found.files, 'file')} of {bytes_text(found.bytes)}"
        f"{'; what filters leave out of these is not known before they are read' if is_filtered else ''}"
    )


def _told(one: Forwarded) -> str:
    """Say in a line or two what became of one destination."""
    if one.is_busy:
        return printable(f"{one.name}: another process forwards to it")
    tally = one.tally
    parts = [f"{plural(tally.taken, 'event')} taken"]
    parts += [
        f"{count:,} {what}"
        for count, what in (
            (tally.already, "of them there before"),
            (tally.dead, "dead letters"),
            (tally.filtered, "not wanted"),
            (tally.invalid, "invalid, in quarantine"),
            (tally.retries, "retries"),
        )
        if count
    ]
    text = f"{one.name}: {', '.join(parts)}"
    if one.error is not None:
        text += f"\n  failed: {one.error.message}"
        if one.error.hint:
            text += f"\n  {one.error.hint}"
    elif tally.dead:
        text += f"\n  see `archiver deadletters list {one.name}`"
    return "\n".join(map(printable, text.split("\n")))
