"""`archiver doctor`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, printable

if TYPE_CHECKING:
    from archiver.doctor import DoctorReport

_SIGNS = {"ok": "ok  ", "warning": "WARN", "failed": "FAIL", "skipped": "-   "}


@click.command("doctor", epilog=EXIT_CODES)
@archive_options
@click.option(
    "--spool",
    "spools",
    multiple=True,
    envvar="ARCHIVER_SPOOL",
    show_envvar=True,
    metavar="DIR",
    help="Folder with deliveries; may be given several times.",
)
@click.pass_context
def doctor_command(click_context: click.Context, context: Context, spools: tuple[str, ...]) -> None:
    """Check store, archive, spool and machine; say how to mend what is wrong.

    Tries what a run does, with probe objects of its own: credentials, reading, writing and
    deleting, a race of eight writers, clocks, file systems, permissions, space. Looks at what
    is received: streams that are silent for too long, secrets, the certificate, consumers that
    nobody empties. Asks the databases what a run would be refused. Looks at destinations, and
    connects to none: `archiver forward NAME --test` does. Counts streams against the vendor's
    plan. Changes nothing of yours. Exit code 1 if a check failed.
    """
    from archiver.doctor import examine

    settings = replace(context.settings, spools=spools or context.settings.spools)
    report = examine(
        context.open_store, [Path(folder) for folder in settings.spool_folders], settings=settings
    )
    context.out(doctor_text(report), report.to_json())
    click_context.exit(0 if report.is_well else 1)


def doctor_text(report: DoctorReport) -> str:
    """Return a line for each check, with a second one where something is to be done."""
    lines = []
    for check in report.checks:
        lines.append(printable(f"{_SIGNS[check.status]}  {check.name}: {check.found}"))
        if check.fix and check.status != "ok":
            lines.append(printable(f"      → {check.fix}"))
    failed = sum(check.status == "failed" for check in report.checks)
    warned = sum(check.status == "warning" for check in report.checks)
    lines.append("")
    if failed:
        lines.append(f"{failed} of {len(report.checks)} checks failed, {warned} warned")
    else:
        lines.append(f"well: {len(report.checks)} checks, {warned} warned")
    return "\n".join(lines)
