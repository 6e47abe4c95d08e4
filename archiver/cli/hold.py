"""`archiver hold set / list / release`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, printable, write_options
from archiver.cli.text import plural

if TYPE_CHECKING:
    from archiver.holds import HoldReport
    from archiver.ledger.entry import Hold


@click.group("hold", epilog=EXIT_CODES)
def hold_group() -> None:
    """Set, list and release legal holds: what one covers does not expire."""


def _reason(function: Any) -> Any:
    return click.option(
        "--reason",
        required=True,
        envvar="ARCHIVER_REASON",
        show_envvar=True,
        metavar="TEXT",
        help="Stands in the ledger for good: the case, and who asked.",
    )(function)


@hold_group.command("set", epilog=EXIT_CODES)
@archive_options
@write_options
@click.argument("name")
@click.option(
    "--workspace",
    envvar="ARCHIVER_WORKSPACE",
    show_envvar=True,
    metavar="NAME",
    help="Only this one. Default: all.",
)
@click.option(
    "--since",
    envvar="ARCHIVER_SINCE",
    show_envvar=True,
    metavar="WHEN",
    help="Rows at or after: 2026-03-26, 2026-03-26T10:15:00Z, or 7d for seven days back.",
)
@click.option("--until", envvar="ARCHIVER_UNTIL", show_envvar=True, metavar="WHEN", help="Rows before.")
@_reason
@click.option(
    "--replace",
    "replace_cover",
    is_flag=True,
    envvar="ARCHIVER_REPLACE",
    help="Change what a hold of this name covers.",
)
@click.pass_context
def set_command(
    click_context: click.Context,
    context: Context,
    name: str,
    workspace: str | None,
    since: str | None,
    until: str | None,
    reason: str,
    replace_cover: bool,
) -> None:
    """Stop the expiry of what this hold covers, from now on until it is released.

    NAME is 1 to 64 letters, digits, `_`, `.` and `-`. A file is held whole if any of its rows
    may be covered. The hold is a commit, and stays in the ledger after its release. What
    expired before is counted: it cannot be made live again, but `collect` leaves its files
    alone while the hold is in force.
    """
    from archiver import clock
    from archiver.holds import set_hold
    from archiver.ledger.entry import Hold
    from archiver.times import parse_when

    now = clock.now_us()
    bounds = [None if when is None else parse_when(when, now) for when in (since, until)]
    hold = Hold(name, workspace, bounds[0], bounds[1], reason)
    report = set_hold(context.open_archive(), hold, replace_cover=replace_cover)
    context.out(_text(report), report.to_json())
    click_context.exit(1 if report.problems else 0)


@hold_group.command("release", epilog=EXIT_CODES)
@archive_options
@write_options
@click.argument("name")
@_reason
@click.pass_context
def release_command(click_context: click.Context, context: Context, name: str, reason: str) -> None:
    """End a hold. What it covered expires by the rules again, at the next `archiver retain`."""
    from archiver.holds import release_hold

    report = release_hold(context.open_archive(), name, reason=reason)
    context.out(_text(report), report.to_json())
    click_context.exit(1 if report.problems else 0)


@hold_group.command("list", epilog=EXIT_CODES)
@archive_options
@click.option(
    "--all",
    "everything",
    is_flag=True,
    envvar="ARCHIVER_ALL",
    help="Every commit that set or released one; reads the whole ledger.",
)
def list_command(context: Context, everything: bool) -> None:
    """Show the holds in force, or with --all every commit about a hold."""
    from archiver import clock
    from archiver.holds import history

    archive = context.open_archive()
    holds = sorted(archive.ledger.snapshot.holds.values(), key=lambda hold: hold.name)
    document: dict[str, Any] = {"message_type": "holds", "holds": [hold.to_json() for hold in holds]}
    lines = [_line(hold) for hold in holds] or ["no hold is in force"]
    if everything:
        events = list(history(archive, context.progress))
        document["history"] = [event.to_json() for event in events]
        lines = [
            f"commit {event.commit}  {clock.to_text(event.committed_us)[:19]}Z  "
            f"{'released' if event.hold.released else 'set':<9} {_line(event.hold)}"
            for event in events
        ] or ["there never was a hold"]
    context.out("\n".join(lines), document)


def _line(hold: Hold) -> str:
    from archiver.holds import cover_text

    return printable(f"{hold.name}: {cover_text(hold)}; {hold.reason}")


def _text(report: HoldReport) -> str:
    done = "released" if report.hold.released else "in force"
    already = "already " if report.commit is None else ""
    lines = [f"{already}{done}  {_line(report.hold)}"]
    if report.commit is not None:
        lines.append(f"commit {report.commit}")
    if report.replaced is not None:
        lines.append(f"replaced    {_line(report.replaced)}")
    if not report.hold.released:
        live = f"{plural(report.covered_files, 'file')} with {plural(report.covered_rows, 'row')}"
        lines.append(f"covers      {live} that are live now, and what comes")
        if not report.covered_files:
            lines.append("WARNING     nothing that is live is covered: is the workspace's name right?")
    if report.expired_files:
        lines.append(
            f"WARNING     {plural(report.expired_files, 'file')} with {plural(report.expired_rows, 'row')} "
            f"that it covers expired before; {report.still_there:,} of the files are still there, and "
            "`archiver collect` leaves them alone while the hold is in force"
        )
    if report.readable_as_of is not None:
        lines.append(f"take them out now: archiver export --as-of {report.readable_as_of} --dataset all")
    lines += [f"PROBLEM     {printable(one)}" for one in report.problems]
    return "\n".join(lines)
