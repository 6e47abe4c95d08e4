"""`archiver index`."""

from __future__ import annotations

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, write_options
from archiver.cli.text import bytes_text, plural


@click.group("index", epilog=EXIT_CODES)
def index_group() -> None:
    """The identity index: which ids lie in which data file.

    Runs look ids up in it instead of reading data files. It is a cache: each run brings it up
    to date, it may be deleted at any time, and `verify` does not trust it. Where it is missing
    or damaged, runs take longer and decide the same.
    """


@index_group.command("rebuild", epilog=EXIT_CODES)
@archive_options
@write_options
@click.option(
    "--dry-run",
    is_flag=True,
    envvar="ARCHIVER_DRY_RUN",
    show_envvar=True,
    help="Say how much would be read.",
)
def rebuild_command(context: Context, dry_run: bool) -> None:
    """Make the index anew from the ids in all data files.

    It takes about as long as reading the id column of the whole archive. Runs may go on
    meanwhile. `archiver collect` deletes the objects of the old index.
    """
    archive = context.open_archive()
    if dry_run:
        report = archive.identities.forecast(anew=True)
    else:
        report = archive.identities.update(context.progress, anew=True)
    what = f"{plural(report.ids, 'id')} of {plural(report.files, 'data file')}"
    if dry_run:
        text = f"{what} would be read"
    else:
        text = f"{what} indexed in {plural(report.parts, 'object')}, {bytes_text(report.bytes)}"
    context.out(text, report.to_json())


@index_group.command("status", epilog=EXIT_CODES)
@archive_options
def status_command(context: Context) -> None:
    """Say how far the index goes and what it is made of. Nothing is written."""
    from archiver.index.status import index_status

    status = index_status(context.open_archive().ledger)
    if status.sequence is None:
        text = "there is no index that fits this ledger; the next run makes one when it is worth it"
    else:
        behind = status.head - status.sequence
        lines = [f"indexed up to commit {status.sequence}, {plural(behind, 'commit')} behind the head"]
        lines += [
            f"{month.month}  {month.ids:>13,} ids  {plural(month.runs, 'run')}, "
            f"{plural(month.objects, 'object')}, {bytes_text(month.bytes)}"
            for month in status.months
        ]
        text = "\n".join(lines)
    context.out(text, status.to_json())
