"""`archiver reconcile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import (
    Context,
    archive_options,
    option_with_variable,
    printable,
    use_a_frugal_memory_pool,
    write_options,
)
from archiver.cli.text import plural
from archiver.errors import ConfigError

if TYPE_CHECKING:
    from archiver.reconcile import ReconcileReport, Row

_CODES = """\
\b
Exit codes: 0 every row that was due is archived or in quarantine · 1 rows are missing, or
it failed · 2 usage or configuration · 3 repaired, and rows went into quarantine · 10 no
archive there · 11 too much contention · 12 commit state unknown · 20 stored bytes differ
from the ledger · 130 interrupted
"""
_SHOWN_DAYS = 40


@click.command("reconcile", epilog=_CODES)
@click.argument("name", metavar="NAME")
@archive_options
@write_options
@option_with_variable(
    "--since",
    metavar="WHEN",
    help="From this day on: 2026-03-26, or 7d for seven days back. Default: the last 30 days.",
)
@option_with_variable("--until", metavar="WHEN", help="Only days before this time. Default: today included.")
@option_with_variable(
    "--ids",
    "every_id",
    is_flag=True,
    help="Compare ids everywhere: equal counts may hide one missing and one too many.",
)
@option_with_variable("--repair", is_flag=True, help="Archive what is missing.")
@option_with_variable(
    "--limit",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="How many missing rows, and how many events that only the archive has, to show.",
)
@click.pass_context
def reconcile_command(
    click_context: click.Context,
    /,
    context: Context,
    name: str,
    since: str | None,
    until: str | None,
    every_id: bool,
    repair: bool,
    limit: int,
    **_: Any,
) -> None:
    """Hold the database [sources.NAME] against the archive: is every row there?

    Counts by workspace and UTC day (of created_at, else occurred_at), then ids where they
    differ. Only rows up to the cursor count: what the next run would read is not missing.
    Where counts agree no data file is read, so this may run daily.

    Missing in the archive is what the exit code tells of. Missing in the database is no
    error: it was purged or deleted there, or came by webhook alone. --repair sends the
    missing rows through the ordinary way, validation and quarantine included, and leaves
    the cursor where it is; it may be repeated. Days that [retention] lets expire are left out.

    \b
    Once a day from cron:
      17 4 * * * archiver reconcile app --since 3d --repair --archive s3://bucket/audit --log-format json
    """
    from archiver import clock
    from archiver.reconcile import reconcile
    from archiver.runs import rules_of
    from archiver.times import parse_when

    use_a_frugal_memory_pool()
    source = context.settings.sources.get(name)
    if source is None:
        known = ", ".join(sorted(context.settings.sources)) or "none"
        raise ConfigError(
            f"there is no [sources.{name}] in the configuration",
            hint=f"the databases there are: {known}",
        )
    now = clock.now_us()
    report = reconcile(
        context.open_archive(),
        source,
        since_us=None if since is None else parse_when(since, now),
        until_us=None if until is None else parse_when(until, now),
        every_id=every_id,
        rules=rules_of(context.settings, name) if repair else None,
        retention=context.settings.retention,
        limit=limit,
        progress=context.progress,
    )
    context.out(reconcile_text(report), report.to_json())
    click_context.exit(report.exit_code)


def reconcile_text(report: ReconcileReport) -> str:
    """Return what was compared and what differs; the verdict last."""
    from archiver.reconcile import day_text

    days = f"{day_text(report.since_day)} to {day_text(report.until_day - 1)}"
    lines = [
        f"{days}: {plural(report.places, 'workspace and day', 'workspaces and days')}, "
        f"ids compared of {report.compared:,}, {report.seconds:.1f} s",
        f"database     {report.database:>12,}   rows that were due, up to {printable(report.position)}",
        f"archive      {report.archived:>12,}   events",
        f"quarantined  {report.quarantined:>12,}   "
        + ("of those rows: archiver quarantine list" if report.quarantined else "of those rows"),
    ]
    if report.waiting:
        lines.append(f"waiting      {report.waiting:>12,}   rows behind the cursor, which the next run reads")
    if report.elsewhere:
        lines.append(f"elsewhere    {report.elsewhere:>12,}   rows archived under another day")
    if report.repeated:
        lines.append(f"repeated     {report.repeated:>12,}   rows with the id of another row")
    if report.retained:
        lines.append(f"left out     {report.retained:>12,}   workspaces and days that retention lets expire")
    lines += _differences(report)
    lines += _listed("only in the archive", report.only_archived_events, report.only_archived)
    what = "missing" if report.repair is None else "was missing"
    lines += _listed(what, report.missing_rows, report.missing)
    return "\n".join([*lines, *_verdict(report)])


def _differences(report: ReconcileReport) -> list[str]:
    if not report.days:
        return []
    lines = ["", f"{'day':<12}{'database':>12}{'archive':>12}{'missing':>12}{'only there':>12}   workspace"]
    for one in report.days[:_SHOWN_DAYS]:
        told = one.to_json()
        workspace = "(none)" if one.workspace is None else printable(one.workspace)
        counts = f"{one.due:>12,}{one.archived:>12,}{one.missing:>12,}{one.only_archived:>12,}"
        lines.append(f"{told['day']:<12}{counts}   {workspace}")
    if len(report.days) > _SHOWN_DAYS:
        lines.append("… and more; --json lists up to 1,000")
    return lines


def _listed(what: str, rows: list[Row], count: int) -> list[str]:
    if not count:
        return []
    lines = ["", f"{what}: {count:,}"]
    for one in rows:
        told = one.to_json()
        key = "" if one.key in ((), (one.id,)) else f"  key {printable(', '.join(map(str, one.key)))}"
        whose = " ".join("(none)" if part is None else printable(part) for part in (one.workspace, one.id))
        lines.append(f"  {told['at']}  {whose}{key}")
    if count > len(rows):
        lines.append(f"  … and {count - len(rows):,} more (--limit)")
    return lines


def _verdict(report: ReconcileReport) -> list[str]:
    lines = [""]
    if report.only_archived:
        lines.append(
            "what only the archive has was purged or deleted in the database, or came by webhook alone"
        )
    done = report.repair
    if not report.missing:
        lines.append("COMPLETE   every row that was due is in the archive or in quarantine")
        if not report.every_id:
            lines[-1] += ", by the counts and, where they differ, by the ids"
    elif done is None:
        lines.append(f"MISSING    {plural(report.missing, 'row')}; --repair archives what is missing")
    else:
        counts = done.counts
        lines.append(
            f"REPAIRED   {plural(counts.read, 'row')} in {plural(len(done.commits), 'commit')}: archived "
            f"{counts.archived:,}, supplements {counts.supplements:,}, duplicates {counts.duplicates:,}, "
            f"quarantined {counts.quarantined:,}"
        )
        if done.gone:
            lines.append(f"{plural(done.gone, 'row')} had left the database meanwhile")
        if done.left > 0:
            lines.append(f"{plural(done.left, 'row')} are left: run it again")
        lines += [f"problem: {printable(one)}" for one in done.problems]
        if counts.quarantined:
            lines.append("see what was rejected and why: archiver quarantine list")
    return lines
