"""`archiver copy`."""

from __future__ import annotations

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, printable
from archiver.cli.text import bytes_text, plural


@click.command("copy", epilog=EXIT_CODES)
@archive_options
@click.argument("destination", metavar="LOCATION", envvar="ARCHIVER_COPY_TO")
@click.option(
    "--to-endpoint-url",
    envvar="ARCHIVER_TO_ENDPOINT_URL",
    show_envvar=True,
    metavar="URL",
    help="Of LOCATION, where it is on another S3-compatible server.",
)
@click.option(
    "--to-region", envvar="ARCHIVER_TO_REGION", show_envvar=True, metavar="NAME", help="Of LOCATION's bucket."
)
@click.option("--dry-run", is_flag=True, envvar="ARCHIVER_DRY_RUN", help="Say what would be copied.")
def copy_command(
    context: Context,
    destination: str,
    to_endpoint_url: str | None,
    to_region: str | None,
    dry_run: bool,
) -> None:
    """Copy the archive to LOCATION, or bring an earlier copy up to date.

    Every object is held against the ledger on its way. An interrupted copy is no archive
    yet: run the same again. Then prove the copy:

    \b
      archiver copy s3://backup/audit --archive ./archive
      archiver verify --archive s3://backup/audit --expect SEQUENCE:DIGEST

    To restore, copy the other way round. Caches and the table log for engines are made
    anew there: archiver index rebuild, archiver publish delta.
    """
    from archiver.copy import copy
    from archiver.store.open import open_store

    source = context.open_store()
    options = context.settings.store
    if to_endpoint_url is not None or to_region is not None:
        from dataclasses import replace

        options = replace(
            options,
            endpoint_url=to_endpoint_url or options.endpoint_url,
            region=to_region or options.region,
        )
    report = copy(source, open_store(destination, options), dry_run=dry_run, progress=context.progress)
    done = "would be copied" if dry_run else "copied"
    lines = [
        f"{plural(report.commits, 'commit')}, {plural(report.objects, 'object')}, "
        f"{bytes_text(report.bytes)} {done} to {printable(destination)}"
    ]
    if not dry_run:
        lines.append(
            f"to prove it: archiver verify --archive {printable(destination)} "
            f"--expect {report.head}:{report.head_digest}"
        )
    context.out("\n".join(lines), report.to_json())
