"""`archiver run`."""

from __future__ import annotations

import logging
import os
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
    from archiver.config import Settings
    from archiver.exposition import Family
    from archiver.pipeline import RunReport

_log = logging.getLogger("archiver.run")


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
    "--rewind",
    "rewind",
    multiple=True,
    envvar="ARCHIVER_REWIND",
    show_envvar=True,
    metavar="NAME",
    help="Read this database from its first row again, after a restore or a fail-over; what is archived"
    " counts as duplicate.",
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
    "--metrics-file",
    type=click.Path(dir_okay=False),
    envvar="ARCHIVER_METRICS_FILE",
    show_envvar=True,
    metavar="FILE",
    help="Leave metrics there, for node_exporter's textfile collector, however the run ends.",
)
@click.option(
    "--ping-url-file",
    type=click.Path(dir_okay=False),
    envvar="ARCHIVER_PING_URL_FILE",
    show_envvar=True,
    metavar="FILE",
    help="Holds a URL to ask when the run ended with 0 or 3; or set ARCHIVER_PING_URL.",
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
    rewind: tuple[str, ...],
    workers: int | None,
    report: Path | None,
    metrics_file: str | None,
    ping_url_file: str | None,
    compact: bool,
    **_: Any,
) -> None:
    """Archive what the spools and databases hold, once; let the spools forget it.

    Safe to run at any moment, twice at once, and after any crash: what was committed is
    only acknowledged, what was not is tried anew. The archive is created for a spool that
    never had one, and for no other; for a database `archiver init` creates it.

    To be watched: ARCHIVER_PING_URL (or --ping-url-file) is asked after each run that ended
    with 0 or 3, ARCHIVER_PING_FAILURE_URL after one that failed. Both are secrets, so neither
    is an option. They are https, or http to this machine.

    \b
    Every five minutes from cron:
      */5 * * * * archiver run --spool /var/spool/archiver --archive s3://bucket/audit --log-format json
    """
    from archiver import clock
    from archiver.pipeline import RunReport

    use_a_frugal_memory_pool()
    settings = context.settings
    settings = replace(
        settings,
        spools=spools or settings.spools,
        settle_seconds=settings.settle_seconds if settle is None else settle,
        done=settings.done if done is None else done,
        workers=settings.workers if workers is None else workers,
        metrics_file=metrics_file or settings.metrics_file,
        ping_url_file=ping_url_file or settings.ping_url_file,
    )
    result, started_us = RunReport(), clock.now_us()
    try:
        code = _run(context, settings, result, report, compacts=compact, rewind=rewind)
    except BaseException as error:
        try:
            _tell_who_watches(context, settings, result, _code_of(error), started_us)
        except ArchiverError as trouble:
            _log.error("%s", trouble.message)
        raise
    _tell_who_watches(context, settings, result, code, started_us)
    context.out(run_text(result), result.to_json())
    click_context.exit(code)


def _run(
    context: Context,
    settings: Settings,
    result: RunReport,
    report: Path | None,
    *,
    compacts: bool,
    rewind: tuple[str, ...],
) -> int:
    """Archive, fill `result`, write the report, and return the exit code."""
    from archiver.forward.folders import make_for_receivers
    from archiver.runs import run_sources

    if not settings.spool_folders and not settings.sources:
        raise ConfigError(
            "no spool and no database was named",
            hint="give --spool DIR, or folders or [sources.NAME] in archiver.toml",
        )
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"{report}: its folder is not there", hint="create it; nothing was archived yet")
    for problem in make_for_receivers(settings):
        _log.warning("%s", problem)
    try:
        run_sources(
            context.open_store(),
            checked(settings),
            progress=context.progress,
            report=result,
            compacts=compacts,
            rewind=rewind,
        )
    except ArchiverError as error:
        # What was committed before the error is told all the same, where somebody reads it.
        result.problems.append(error.message)
        _write_report(report, result)
        raise
    _write_report(report, result)
    if result.problems:
        return 1
    return 3 if result.counts.quarantined else 0


def _code_of(error: BaseException) -> int:
    if isinstance(error, ArchiverError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _tell_who_watches(
    context: Context, settings: Settings, result: RunReport, code: int, started_us: int
) -> None:
    """Write the metrics, then ask the URL; a ping that fails is a warning and nothing more.

    Raises:
        ArchiverError: The metrics cannot be written.
    """
    from archiver import clock
    from archiver.exposition import Ended, write_run_metrics
    from archiver.ping import ping

    trouble = None
    if settings.metrics_file:
        ended = Ended(result, code, started_us, clock.now_us())
        try:
            write_run_metrics(
                Path(settings.metrics_file), ended, settings, _of_destinations(context, settings)
            )
        except ArchiverError as error:
            trouble, code = error, code if code not in (0, 3) else error.exit_code
    if problem := ping(code, os.environ, settings.ping_url_file, settings.ping_failure_url_file):
        _log.warning("%s", problem)
    if trouble is not None:
        raise trouble


def _of_destinations(context: Context, settings: Settings) -> list[Family]:
    # Two files with one metric would be refused as a whole by who collects them.
    if not settings.destinations or settings.forward_metrics_file:
        return []
    from archiver.forward.metrics import families_of

    return families_of(settings, context.open_archive)


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
