"""`archiver collect`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options
from archiver.cli.text import bytes_text, plural

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """A time span such as `90s`, `30m`, `24h`, `7d`."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smhd])", value, re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no duration: write 90s, 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command("collect", epilog=EXIT_CODES)
@archive_options
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    envvar="ARCHIVER_GRACE",
    show_envvar=True,
    help="Attempts silent for so long are declared dead.",
)
@click.option(
    "--keep-snapshots",
    type=Duration(),
    default="7d",
    show_default=True,
    envvar="ARCHIVER_KEEP_SNAPSHOTS",
    show_envvar=True,
    help="For so long --as-of can go back behind a compaction or an expiry.",
)
@click.option(
    "--force",
    is_flag=True,
    envvar="ARCHIVER_FORCE",
    help="Allow a grace, or keeping snapshots, below one hour.",
)
@click.option("--dry-run", is_flag=True, envvar="ARCHIVER_DRY_RUN", help="List what would be deleted.")
@click.option(
    "--spool",
    "spools",
    multiple=True,
    envvar="ARCHIVER_SPOOL",
    show_envvar=True,
    metavar="DIR",
    help="Hold the ledger against the head that this spool has seen; several times.",
)
@click.option(
    "--expect",
    multiple=True,
    envvar="ARCHIVER_EXPECT",
    show_envvar=True,
    metavar="SEQUENCE:DIGEST",
    help="Refuse unless the ledger still has this commit.",
)
def collect_command(
    context: Context,
    grace: timedelta,
    keep_snapshots: timedelta,
    force: bool,
    dry_run: bool,
    spools: tuple[str, ...],
    expect: tuple[str, ...],
) -> None:
    """Delete what no commit reaches: files of runs that died or were overtaken.

    Before anything is deleted, a commit declares the dead attempts dead, so that even a
    run that wakes up again can no longer commit. Files that a compaction or an expiry took
    out of the snapshot go, too, once --keep-snapshots is over; the same commit then says
    from where on --as-of works. What a kept snapshot names is never touched.
    But a ledger that somebody cut short names less: on another host than the spool's, give
    --expect with the head that you wrote down.
    """
    from archiver.collect import collect
    from archiver.runs import expect_commits, hold_against, spool_sources
    from archiver.verify import parse_expected

    archive = context.open_archive()
    for source in spool_sources(replace(context.settings, spools=spools or context.settings.spools)):
        hold_against(archive, source)
    expect_commits(archive, [parse_expected(one) for text in expect for one in text.split()])
    report = collect(
        archive,
        grace=grace,
        keep_snapshots=keep_snapshots,
        force=force,
        dry_run=dry_run,
        progress=context.progress,
    )
    done = "would be deleted" if dry_run else "deleted"
    lines = list(report.deleted) if dry_run else []
    lines.append(f"{plural(len(report.deleted), 'object')}, {bytes_text(report.deleted_bytes)} {done}")
    if report.fenced:
        lines.append(f"{plural(len(report.fenced), 'attempt')} {'would be ' if dry_run else ''}declared dead")
    if report.superseded:
        kept = f"--as-of {'would work' if dry_run else 'works'} from commit {report.oldest_readable} on"
        lines.append(f"{plural(report.superseded, 'file')} of them compacted or expired before; {kept}")
    if report.held:
        lines.append(f"{plural(len(report.held), 'expired file')} left alone: a legal hold covers them")
    if report.hidden:
        lines.append(
            f"{plural(len(report.hidden), 'object')} hidden, not deleted: the bucket keeps old versions "
            "(needs s3:ListBucketVersions and s3:DeleteObjectVersion)"
        )
    if report.kept:
        why = Counter(report.kept.values())
        lines += [
            f"{plural(count, 'object')} kept by the store: {reason}" for reason, count in sorted(why.items())
        ]
    if report.young:
        lines.append(f"{plural(report.young, 'object')} of attempts younger than the grace left alone")
    if report.unexplained:
        lines.append(
            f"{plural(len(report.unexplained), 'object')} that no commit explains left alone: archiver verify"
        )
    context.out("\n".join(lines), report.to_json())
