"""`archiver publish delta`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, write_options
from archiver.cli.text import plural

if TYPE_CHECKING:
    from archiver.delta.publish import PublishReport


@click.group("publish", epilog=EXIT_CODES)
def publish_group() -> None:
    """Bring views of the archive for other engines up to date."""


@publish_group.command("delta", epilog=EXIT_CODES)
@archive_options
@write_options
@click.option(
    "--rebuild",
    is_flag=True,
    envvar="ARCHIVER_REBUILD",
    show_envvar=True,
    help="Compare every version with its commit and put right what differs.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    envvar="ARCHIVER_DRY_RUN",
    show_envvar=True,
    help="Compare every version with its commit and write nothing; 20 if one was altered.",
)
def delta_command(context: Context, rebuild: bool, dry_run: bool) -> None:
    """Make events/_delta_log/ say what the ledger says, so that engines read `events` as a Delta table.

    Each run does this by itself; what a crash left out, the next run adds. Delta version N is
    commit N. The log is a view: it can be deleted and made again, and `verify` does not trust
    it. An archive of JSON lines has none.

    \b
      archiver publish delta                     add the versions that are missing
      archiver publish delta --dry-run           has somebody altered the log?
      archiver publish delta --rebuild           make it anew where it differs
    """
    from archiver.delta import publish as delta

    archive = context.open_archive()
    if dry_run:
        report = delta.check(archive, context.progress)
    elif rebuild:
        report = delta.rebuild(archive, context.progress)
    else:
        report = delta.publish(archive, context.progress)
    if dry_run and not rebuild:
        report.refuse()
    context.out(_text(report, dry_run=dry_run), report.to_json())


def _text(report: PublishReport, *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    lines = [
        f"the Delta log {'would be' if dry_run else 'is'} at version {report.head}, the head of the ledger"
    ]
    if report.published:
        lines.append(f"{plural(len(report.published), 'version')} {would}published")
    if report.altered:
        lines.append(f"{plural(len(report.altered), 'altered version')} {would}put right")
    if report.strange:
        lines.append(f"{plural(len(report.strange), 'strange object')} {would}deleted")
    if report.checkpoint is not None:
        lines.append(f"checkpoint of version {report.checkpoint} written")
    return "\n".join(lines)
