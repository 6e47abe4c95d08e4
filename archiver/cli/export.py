"""`archiver export`."""

from __future__ import annotations

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, as_of_option
from archiver.cli.target import open_target
from archiver.cli.text import plural


@click.command("export", epilog=EXIT_CODES)
@archive_options
@as_of_option
@click.option(
    "--since",
    envvar="ARCHIVER_SINCE",
    show_envvar=True,
    metavar="WHEN",
    help="At or after: 2026-03-26, 2026-03-26T10:15:00Z, or 7d for seven days back.",
)
@click.option("--until", envvar="ARCHIVER_UNTIL", show_envvar=True, metavar="WHEN", help="Before.")
@click.option(
    "--workspace", envvar="ARCHIVER_WORKSPACE", show_envvar=True, metavar="NAME", help="Only this one."
)
@click.option(
    "--dataset",
    envvar="ARCHIVER_DATASET",
    show_envvar=True,
    type=click.Choice(["events", "alerts", "supplements", "all"]),
    default="events",
    show_default=True,
)
@click.option(
    "--output",
    "-o",
    envvar="ARCHIVER_OUTPUT",
    show_envvar=True,
    metavar="FILE",
    help="Write there; .gz and .zst compress. Default: stdout.",
)
def export_command(
    context: Context,
    since: str | None,
    until: str | None,
    workspace: str | None,
    dataset: str,
    output: str | None,
) -> None:
    """Write the bodies as they came, one a line, by day, workspace and file.

    Line breaks inside a body become spaces; nothing else is changed. Every file is held
    against its digest in the ledger (exit 20 if it differs).
    """
    from archiver import clock
    from archiver.export import export
    from archiver.times import parse_when

    if context.json and output is None:
        raise click.UsageError("--json needs --output: the bodies themselves go to stdout")
    now = clock.now_us()
    archive = context.open_archive()
    lines = export(
        archive,
        dataset=dataset,  # type: ignore[arg-type]
        workspace=workspace,
        since=None if since is None else parse_when(since, now),
        until=None if until is None else parse_when(until, now),
    )
    count = size = 0
    progress = context.progress
    progress.start("exporting", None)
    try:
        with open_target(output, archive.store, compress=True) as stream:
            for line in lines:
                stream.write(line)
                count += 1
                size += len(line)
                if count % 10_000 == 0:
                    progress.advance(rows=10_000)
    finally:
        progress.finish()
    if output is not None:
        document = {"message_type": "export_report", "bodies": count, "bytes": size, "output": output}
        context.out(f"{plural(count, 'body', 'bodies')} written to {output}", document)
