"""`archiver status`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, as_of_option, printable
from archiver.cli.text import bytes_text, plural, seconds_text
from archiver.errors import IntegrityError

if TYPE_CHECKING:
    from archiver.archive import Archive
    from archiver.config import Settings
    from archiver.forward.standing import Standing
    from archiver.silence import Hearing
    from archiver.status import Status

_MOST_WORKSPACES = 10


@click.command("status", epilog=EXIT_CODES)
@archive_options
@as_of_option
@click.option("--spool", "spools", multiple=True, envvar="ARCHIVER_SPOOL", show_envvar=True, metavar="DIR")
@click.option(
    "--connect",
    is_flag=True,
    envvar="ARCHIVER_CONNECT",
    show_envvar=True,
    help="Also ask the databases how many rows wait.",
)
def status_command(context: Context, spools: tuple[str, ...], connect: bool) -> None:
    """Show the head, the last run, what is live, spools, streams, databases, destinations, the quarantine.

    A stream is SILENT when nothing came for longer than its silent_after_seconds: some senders
    stop a stream for good after a few failures, and tell nobody.

    Reads the ledger and the spool's folder names; opens no data file, and asks no database
    without --connect.
    """
    from archiver.runs import hold_against, spool_sources
    from archiver.status import status

    settings = replace(context.settings, spools=spools or context.settings.spools)
    if context.as_of is not None:
        # Of a spool and a database only the present is known.
        settings, connect = replace(settings, spools=(), streams={}, sources={}, destinations={}), False
    archive = context.open_archive()
    present = tuple(one for one in settings.spool_folders if Path(one).is_dir())
    missing = [one for one in settings.spool_folders if one not in present]
    sources = spool_sources(replace(settings, spools=present, streams={}))
    found = status(archive, sources, settings.streams, databases=settings.sources)
    warnings = [f"{printable(one)}: no such spool folder" for one in missing]
    for source in sources:
        try:
            hold_against(archive, source)
        except IntegrityError as error:
            warnings.append(f"{printable(error.message)}; {error.hint}")
    lags = _lags(settings, found) if connect else {}
    lines = [_text(found, lags)]
    destinations = _standings(settings, archive)
    for destination in destinations:
        lines += standing_lines(destination)
    text = "\n".join([*lines, *(f"WARNING     {one}" for one in warnings)])
    told = found.to_json()
    told["destinations"] = [one.to_json() for one in destinations]
    told["sources"] = [one | {"lag": lags.get(one["source"])} for one in told["sources"]]
    context.out(text, told | {"warnings": warnings})


def _standings(settings: Settings, archive: Archive) -> list[Standing]:
    if not settings.destinations:
        return []
    from archiver.forward.standing import standings

    return standings(settings, lambda: archive)


def _lags(settings: Settings, found: Status) -> dict[str, dict[str, Any]]:
    """Ask each configured database what lies behind its cursor; what fails is told and ends nothing."""
    from archiver.database.look import Asked, look
    from archiver.inspect_source import known_to

    lags = {}
    for known in found.sources:
        if known.source in settings.sources:
            seen = look(settings.sources[known.source], Asked(known_to(known.source, known)))
            behind, waiting = seen.behind or (None, None)
            lags[known.source] = {
                "behind": behind,
                "waiting": waiting,
                "seconds": round(seen.bound.lag_seconds, 1) if seen.bound is not None else None,
                "why": seen.held_back_by,
                "problem": seen.errors[0].message if seen.errors else "",
            }
    return lags


def _text(found: Status, lags: dict[str, dict[str, Any]]) -> str:
    from archiver import clock
    from archiver.holds import cover_text

    told = found.to_json()
    lines = [
        f"archive     {found.archive} in {printable(found.location)} ({found.data_format})",
        f"head        {found.head}  {found.head_digest}",
        f"committed   {told['committed_at']}",
    ]
    last: dict[str, Any] | None = found.last_append
    if last:
        lines.append(
            f"last run    commit {last['commit']} from {printable(str(last['source']))}: "
            f"read {last['read']:,}, archived {last['archived']:,}, "
            f"duplicates {last['duplicates']:,}, quarantined {last['quarantined']:,}"
        )
    lines.append("")
    for name, volume in found.datasets.items():
        span = ""
        if volume.min_us is not None and volume.max_us is not None:
            span = f"  {clock.to_text(volume.min_us)[:16]} to {clock.to_text(volume.max_us)[:16]}"
        lines.append(
            f"{name:<12}{volume.rows:>14,} rows  {plural(volume.files, 'file'):>12}  "
            f"{bytes_text(volume.bytes):>10}{span}"
        )
        volumes = found.workspaces[name]
        biggest = sorted(volumes.items(), key=lambda item: -item[1].rows)
        for workspace, part in biggest[:_MOST_WORKSPACES] if len(biggest) > 1 else []:
            lines.append(f"  {printable(workspace):<24}{part.rows:>12,} rows  {plural(part.files, 'file')}")
        if len(biggest) > _MOST_WORKSPACES:
            lines.append(f"  and {len(biggest) - _MOST_WORKSPACES:,} workspaces more (--json has them all)")
    counts = found.counts
    lines += [
        "",
        f"in all      read {counts['read']:,} = archived {counts['archived']:,} "
        f"+ supplements {counts['supplements']:,} + duplicates {counts['duplicates']:,} "
        f"+ quarantined {counts['quarantined']:,}",
    ]
    for spool in found.spools:
        waiting = f"{plural(spool['files'], 'file')}, {bytes_text(spool['bytes'])}"
        oldest = f", oldest since {spool['oldest_at']}" if spool.get("oldest_at") else ""
        lines.append(f"spool       {printable(spool['folder'])}: {waiting} waiting{oldest}")
        if spool["live_segments"]:
            live = f"{plural(spool['live_segments'], 'segment')}, {bytes_text(spool['live_bytes'])}"
            lines.append(f"  being received  {live}")
        for consumer in spool["consumers"]:
            waiting = f"{plural(consumer['files'], 'file')}, {bytes_text(consumer['bytes'])}"
            oldest = f", oldest since {consumer['oldest_at']}" if consumer["oldest_at"] else ""
            lies = f"{waiting} waiting{oldest}" if consumer["complete"] else "cannot be read"
            lines.append(f"  consumer {printable(consumer['name'])}: {lies}")
    lines += [f"stream      {printable(hearing.stream)}: {_heard_text(hearing)}" for hearing in found.streams]
    for source in told["sources"]:
        lines += _source_lines(source, lags.get(source["source"]))
    lines += [
        printable(f"hold        {hold.name}: {cover_text(hold)}; {hold.reason}") for hold in found.holds
    ]
    return "\n".join(lines)


def _source_lines(told: dict[str, Any], lag: dict[str, Any] | None) -> list[str]:
    from archiver.cli.sources import moved_text

    if told["problem"]:
        place = told["problem"]
    elif not told["strategy"]:
        place = "nothing was archived of it yet"
    else:
        place = f"{told['table']} up to {told['position']} ({told['strategy']}){moved_text(told)}"
    lines = [printable(f"database    {told['source']}: {place}")]
    if lag is not None and lag["problem"]:
        lines.append(printable(f"  cannot be asked: {lag['problem']}"))
    elif lag is not None:
        waits = f"; {lag['waiting']:,} may not be read yet: {lag['why']}" if lag["waiting"] else ""
        lines.append(printable(f"  behind that  {plural(lag['behind'] or 0, 'row')}{waits}"))
    return lines


def standing_lines(one: Standing) -> list[str]:
    """Return what is told of a destination, for people."""
    told, tally = one.to_json(), one.tally
    reads = "reads the archive" if one.reads_ledger else "reads its folder"
    running = {True: "is forwarded to now", False: "nobody forwards to it now", None: ""}[one.is_running]
    first = [one.kind, reads, _lag_text(one), running if one.has_begun else ""]
    if not one.has_begun:
        first.append(f"never ran: `archiver forward {one.name}` begins")
    lines = [f"destination {one.name}: {', '.join(part for part in first if part)}"]
    if one.has_begun and one.tally_is_known:
        last = f"; last taken at {told['last_taken_at']}" if told["last_taken_at"] else ""
        lines.append(
            f"  taken {tally.taken:,} in {plural(tally.requests, 'request')}, {tally.retries:,} of them"
            f" retries; filtered {tally.filtered:,}, dead letters {tally.dead:,}{last}"
        )
    if one.dead_letters:
        more = "" if one.dead_letters_are_all else " and more"
        lines.append(
            f"  {plural(one.dead_letters, 'dead letter')}{more} waiting:"
            f" `archiver deadletters list {one.name}` shows why"
        )
    if one.refuses_everything:
        lines.append(
            f"  REFUSES EVERYTHING: the last {plural(tally.refused_in_a_row, 'event')} became dead letters;"
            f" `archiver deadletters list {one.name}` shows why"
        )
    if one.stuck:
        lines.append(
            f"  {plural(one.stuck, 'segment')} that it took cannot be removed, and fill the disk:"
            " `archiver forward` needs the right to delete in its folder"
        )
    if tally.trouble and (tally.failures or tally.is_open):
        state = "CIRCUIT OPEN" if tally.is_open else "failing"
        since = f" since {told['failing_since']}" if told["failing_since"] else ""
        lines.append(f"  {state}{since}: {tally.trouble}")
    elif tally.trouble:
        at = f" at {told['trouble_at']}" if told["trouble_at"] else ""
        lines.append(f"  last trouble{at}: {tally.trouble}")
    lines += [f"  {problem}" for problem in one.problems]
    return [printable(line.replace("\n", " ")) for line in lines]


def _lag_text(one: Standing) -> str:
    lag = one.lag
    if lag is None:
        return "how far behind cannot be told"
    if not lag.events and lag.is_complete:
        return "nothing waits" if one.has_begun else ""
    least = "" if lag.is_complete else "at least "
    size = f" ({bytes_text(lag.bytes)})" if lag.bytes else ""
    return f"{least}{plural(lag.events, 'event')}{size} behind, the oldest for {seconds_text(lag.seconds)}"


def _heard_text(hearing: Hearing) -> str:
    from archiver import clock

    allowed = hearing.silent_after_seconds
    limit = "" if allowed is None else f" (may be silent for {seconds_text(allowed)})"
    if hearing.silent_seconds is None:
        return f"no receiver has listened for it{limit}"
    quiet = seconds_text(hearing.silent_seconds)
    if hearing.last_delivery_at is None:
        told = f"no delivery yet, listening for {quiet}"
    elif hearing.is_ahead:
        told = f"last delivery {clock.to_text(hearing.last_delivery_at)}, which is in the future"
    else:
        told = f"last delivery {clock.to_text(hearing.last_delivery_at)}, {quiet} ago"
    if hearing.is_silent:
        return f"SILENT: {told}{limit}; `archiver doctor` says what to do"
    return f"{told}{limit}"
