"""`archiver upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options

if TYPE_CHECKING:
    from archiver.upgrade import UpgradeReport


@click.command("upgrade", epilog=EXIT_CODES)
@archive_options
@click.option(
    "--dry-run",
    is_flag=True,
    envvar="ARCHIVER_DRY_RUN",
    show_envvar=True,
    help="Only say which steps there are.",
)
def upgrade_command(context: Context, dry_run: bool) -> None:
    """Bring the archive to the newest version of its format.

    There is one version, 1, and it is frozen: every later program reads it. A program that
    finds a newer one than it knows refuses the archive with exit code 20 and writes nothing.
    An upgrade never writes anew what is there; it adds commits. After it, older programs
    refuse the archive, so bring those to the new version first.
    """
    from archiver.upgrade import upgrade

    report = upgrade(context.open_store(), dry_run=dry_run, progress=context.progress)
    context.out(upgrade_text(report), report.to_json())


def upgrade_text(report: UpgradeReport) -> str:
    """Say in a line or two what was found and done."""
    lines = [f"format {report.found}; the newest that this program writes is {report.newest}"]
    done = "would be upgraded" if report.dry_run else "upgraded"
    lines += [f"{done} to format {version}" for version in report.steps]
    return "\n".join(lines if report.steps else [*lines, "nothing to do"])
