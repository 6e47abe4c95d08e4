"""`archiver run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from archiver.cli.common import (
    EXIT_CODES,
    Context,
    archive_options,
    checked,
    json_text,
    use_a_frugal_memory_pool,
    write_options,
)
from archiver.cli.text import run_text
from archiver.errors import ArchiverError, ConfigError

if TYPE_CHECKING:
    from archiver.pipeline import RunReport


@click.command("run", epilog=EXIT_CODES)
@archive_options
@write_options
@click.option(
    "--spool",
    "spools",
    multiple=True,
    envvar="ARCHIVER_SPOOL",
    show_envvar=True,
    metavar="DIR",
    help="Folder with deliveries; may be given several times.",
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    envvar="ARCHIVER_SETTLE",
    show_envvar=True,
    metavar="SECONDS",
    help="Foreign files must have been quiet for so long; 0 takes them at once. Default 60.",
)
@click.option(
    "--done",
    type=click.Choice(["delete", "keep"]),
    envvar="ARCHIVER_DONE",
    show_envvar=True,
    help="What becomes of archived files: deleted, or kept in DIR/done/.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    envvar="ARCHIVER_WORKERS",
    show_envvar=True,
    help="Processes that check a large batch; default: one a processor.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ARCHIVER_REPORT",
    show_envvar=True,
    help="Also write the run's report, as JSON, to this file (whole or not at all).",
)
@click.option(
    "--compact",
    is_flag=True,
    envvar="ARCHIVER_COMPACT",
    show_envvar=True,
    help="Then make few large files of many small ones, as `archiver compact` does by default.",
)
@click.pass_context
def run_command(
    click_context: click.Context,
    /,
    context: Context,
    spools: tuple[str, ...],
    settle: float | None,
    done: Literal["delete", "keep"] | None,
    workers: int | None,
    report: Path | None,
    compact: bool,
    **_: Any,
) -> None:
    """Archive what the spool holds, once, and let the spool forget it.

    Safe to run at any moment, twice at once, and after any crash: what was committed is
    only acknowledged, what was not is tried anew. The archive is created for a spool that
    never had one, and for no other.

    \b
    Every five minutes from cron:
      */5 * * * * archiver run --spool /var/spool/archiver --archive s3://bucket/audit --log-format json
    """
    from archiver.pipeline import RunReport
    from archiver.runs import run_spools

    use_a_frugal_memory_pool()
    settings = context.settings
    settings = replace(
        settings,
        spools=spools or settings.spools,
        settle_seconds=settings.settle_seconds if settle is None else settle,
        done=settings.done if done is None else done,
        workers=settings.workers if workers is None else workers,
    )
    if not settings.spools:
        raise ConfigError("no spool was named", hint="give --spool DIR, or folders in archiver.toml")
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"{report}: its folder is not there", hint="create it; nothing was archived yet")
    result = RunReport()
    try:
        run_spools(
            context.open_store(),
            checked(settings),
            progress=context.progress,
            report=result,
            compacts=compact,
        )
    except ArchiverError as error:
        # What was committed before the error is told all the same, where somebody reads it.
        result.problems.append(error.message)
        _write_report(report, result)
        raise
    _write_report(report, result)
    context.out(run_text(result), result.to_json())
    if result.problems:
        click_context.exit(1)
    click_context.exit(3 if result.counts.quarantined else 0)


def _write_report(path: Path | None, report: RunReport) -> None:
    """Write the report, whole or not at all, if a path was given."""
    from archiver import durable

    if path is None:
        return
    try:
        durable.replace(path, json_text(report.to_json()).encode() + b"\n")
    except OSError as error:
        raise ArchiverError(
            f"{path}: the report cannot be written: {error.strerror}",
            hint="the run itself is done, and what it archived is acknowledged",
        ) from error
