"""`archiver checkpoint`."""

from __future__ import annotations

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options
from archiver.cli.text import bytes_text, plural


@click.command("checkpoint", epilog=EXIT_CODES)
@archive_options
@click.option(
    "--rebuild",
    is_flag=True,
    envvar="ARCHIVER_REBUILD",
    help="Read every commit again, and rely on no checkpoint that is there.",
)
def checkpoint_command(context: Context, rebuild: bool) -> None:
    """Fold the ledger into a checkpoint, so that opening the archive stays quick.

    Runs, compaction and expiry do this by themselves, each time that 64 commits or 20,000
    files have come together. A checkpoint is a cache: it may be deleted at any time, one
    that is damaged is left aside with a warning, and `archiver verify` relies on none.
    With --rebuild all commits are read, which takes minutes where there are very many.
    """
    archive = context.open_archive()
    report = archive.ledger.write_checkpoint(rebuild=rebuild, progress=context.progress)
    done = f"{plural(report.commits, 'commit')} folded" if report.commits else "it was there already"
    lines = [
        f"checkpoint of commit {report.sequence}: {done}, {plural(report.live_files, 'live file')}",
        f"{plural(report.parts, 'set')} of parts, {bytes_text(report.written_bytes)} written",
    ]
    context.out("\n".join(lines), report.to_json())
