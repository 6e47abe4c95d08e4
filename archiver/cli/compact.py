"""`archiver compact`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.collect import Duration
from archiver.cli.common import (
    EXIT_CODES,
    Context,
    archive_options,
    printable,
    use_a_frugal_memory_pool,
    write_options,
)
from archiver.cli.text import bytes_text, plural

if TYPE_CHECKING:
    from archiver.compact import CompactReport, Policy

_SHOWN = 50
_UNITS = {"K": 10, "M": 20, "G": 30}


class Size(click.ParamType[int]):
    """A size such as `64MiB` or `1GiB`, in bytes."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,9})\s*([KMG])i?B?", value.strip(), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no size: write 64MiB or 1GiB", param, ctx)
        return int(found[1]) << _UNITS[found[2]]


@click.command("compact", epilog=EXIT_CODES)
@archive_options
@write_options
@click.option(
    "--target",
    type=Size(),
    default="128MiB",
    show_default=True,
    envvar="ARCHIVER_TARGET",
    show_envvar=True,
    help="So large new files become at most; one of half of it is left alone. Also bounds the memory.",
)
@click.option(
    "--min-files",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    envvar="ARCHIVER_MIN_FILES",
    show_envvar=True,
    help="So many small files make a partition worth it.",
)
@click.option(
    "--min-age",
    type=Duration(),
    default="0s",
    show_default=True,
    envvar="ARCHIVER_MIN_AGE",
    show_envvar=True,
    help="Leave a partition for later if something was added to it within this time.",
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    envvar="ARCHIVER_DATASET",
    show_envvar=True,
    help="Only events, alerts or supplements; several times.",
)
@click.option(
    "--workspace",
    "workspaces",
    multiple=True,
    envvar="ARCHIVER_WORKSPACE",
    show_envvar=True,
    help="Only this one; several times.",
)
@click.option(
    "--since", envvar="ARCHIVER_SINCE", show_envvar=True, metavar="WHEN", help="Only days from this one on."
)
@click.option(
    "--until", envvar="ARCHIVER_UNTIL", show_envvar=True, metavar="WHEN", help="Only days before this time."
)
@click.option(
    "--dry-run",
    is_flag=True,
    envvar="ARCHIVER_DRY_RUN",
    help="Show what would be done, and do nothing.",
)
def compact_command(context: Context, dry_run: bool, **told: Any) -> None:
    """Make few large files of many small ones: the same rows, sorted, in a new commit.

    Safe beside runs, queries and other compactions. Interrupted, it goes on with the next
    call; what was committed stands. The old files stay for --as-of until
    `archiver collect --keep-snapshots` lets them go. A file is rewritten only along with
    others that are together as large, so calling this often costs little more.

    \b
    Once a night from cron, the days that are over:
      7 2 * * * archiver compact --until 1d --archive s3://bucket/audit --log-format json
    """
    from archiver.compact import compact

    use_a_frugal_memory_pool()
    policy = _policy(**told)
    report = compact(context.open_archive(), policy, dry_run=dry_run, progress=context.progress)
    context.out(compact_text(report), report.to_json())


def _policy(
    *,
    target: int,
    min_files: int,
    min_age: timedelta,
    datasets: tuple[str, ...],
    workspaces: tuple[str, ...],
    since: str | None,
    until: str | None,
) -> Policy:
    from archiver import clock
    from archiver.compact import Policy
    from archiver.times import parse_when

    now = clock.now_us()
    return Policy(
        target_bytes=target,
        min_files=min_files,
        min_age=min_age,
        datasets=datasets,
        workspaces=workspaces,
        since_us=None if since is None else parse_when(since, now),
        until_us=None if until is None else parse_when(until, now),
    )


def compact_text(report: CompactReport) -> str:
    """Return what was done, or of a dry run what would be, a partition a line."""
    lines = []
    for one in report.planned[:_SHOWN]:
        place = f"{one['dataset']}  {printable(one['workspace'])}  {one['dt']}"
        size = bytes_text(one["bytes"])
        lines.append(f"{place}  {plural(one['files'], 'file')}, {size} -> {plural(one['new_files'], 'file')}")
    if len(report.planned) > _SHOWN:
        lines.append(f"… and {plural(len(report.planned) - _SHOWN, 'partition')} more; --json lists all")
    if not report.files_before:
        lines.append("nothing to compact: no partition has enough small files")
    else:
        before = f"{plural(report.files_before, 'file')}, {bytes_text(report.bytes_before)}"
        after = plural(report.files_after, "file")
        if report.dry_run:
            lines.append(f"{plural(report.partitions, 'partition')}: {before} would become {after}")
        else:
            lines.append(
                f"{plural(report.partitions, 'partition')}: {before} -> {after}, "
                f"{bytes_text(report.bytes_after)}; {plural(report.rows, 'row')} in "
                f"{plural(len(report.commits), 'commit')}, {report.seconds:.1f} s"
            )
            lines.append("the old files stay until archiver collect --keep-snapshots lets them go")
    if report.overtaken:
        lines.append(f"{plural(report.overtaken, 'group')} left: another commit took files of them meanwhile")
    lines += [f"problem: {printable(problem)}" for problem in report.problems]
    return "\n".join(lines)
