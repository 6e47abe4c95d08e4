"""`archiver retain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, printable, write_options
from archiver.cli.text import bytes_text, plural

if TYPE_CHECKING:
    from archiver.retain import Extent, RetainReport


@click.command("retain", epilog=EXIT_CODES)
@archive_options
@write_options
@click.option(
    "--older-than",
    envvar="ARCHIVER_OLDER_THAN",
    show_envvar=True,
    metavar="SPAN",
    help="Days before today less this expire: 400d, 2w, 13mo, 7y. Default: the rules in [retention].",
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    envvar="ARCHIVER_DATASET",
    show_envvar=True,
    type=click.Choice(["events", "alerts", "supplements"]),
    help="Only of this one; several times.",
)
@click.option(
    "--workspace",
    "workspaces",
    multiple=True,
    envvar="ARCHIVER_WORKSPACE",
    show_envvar=True,
    metavar="NAME",
    help="Only of this one; several times.",
)
@click.option(
    "--every-lock",
    is_flag=True,
    envvar="ARCHIVER_EVERY_LOCK",
    help="Object Lock: look at all commits, not only where a lock is due.",
)
@click.option("--dry-run", is_flag=True, envvar="ARCHIVER_DRY_RUN", help="Say what would expire.")
@click.pass_context
def retain_command(
    click_context: click.Context,
    context: Context,
    older_than: str | None,
    datasets: tuple[str, ...],
    workspaces: tuple[str, ...],
    every_lock: bool,
    dry_run: bool,
) -> None:
    """Let expire what is older than its rule, in whole UTC days; legal holds stop it.

    A rule of a workspace comes before one of a dataset, and that before `keep`. --older-than
    takes the place of `keep`, or is the rule of the datasets or workspaces that are named
    with it: a workspace with a rule of its own must be named. Supplements go with the events.

    Nothing is deleted: older snapshots can be asked for (--as-of) until `archiver collect`
    lets them go. Where Object Lock is configured, the locks of what lives on are extended:
    run this at least once a month.
    """
    from archiver.retain import retain
    from archiver.spans import parse_span

    rules = context.settings.retention
    if older_than is not None:
        rules = rules.with_span(parse_span(older_than), datasets, workspaces)
    report = retain(
        context.open_archive(),
        rules,
        datasets=datasets,
        workspaces=workspaces,
        dry_run=dry_run,
        every_lock=every_lock,
        standing=context.settings.retention,
        progress=context.progress,
    )
    context.out(_text(report), report.to_json())
    click_context.exit(1 if report.locks.problems else 0)


def _text(report: RetainReport) -> str:
    would = "would expire" if report.dry_run else "expired"
    lines = [
        f"{dataset:<12}{printable(workspace):<24}{_extent(extent)}"
        for (dataset, workspace), extent in sorted(report.expired.items())
    ]
    files = sum(extent.files for extent in report.expired.values())
    rows = sum(extent.rows for extent in report.expired.values())
    lines.append(f"{plural(files, 'file')} with {plural(rows, 'row')} {would}")
    lines += [f"held by {name}: {_extent(extent)}" for name, extent in sorted(report.held.items())]
    if report.locks.asked:
        lines.append(f"{plural(report.locks.extended, 'lock')} set or extended")
    lines += [f"PROBLEM {printable(one)}" for one in report.locks.problems]
    if report.expired:
        lines.append("nothing is deleted until `archiver collect`")
    return "\n".join(lines)


def _extent(extent: Extent) -> str:
    days = extent.oldest if extent.oldest == extent.newest else f"{extent.oldest} to {extent.newest}"
    rows, files = plural(extent.rows, "row"), plural(extent.files, "file")
    return f"{rows:>14}  {files:>12}  {bytes_text(extent.bytes):>10}  {days}"
