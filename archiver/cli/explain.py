"""`archiver explain`."""

from __future__ import annotations

from typing import Any

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, as_of_option, printable
from archiver.errors import ArchiverError


@click.command("explain", epilog=EXIT_CODES)
@archive_options
@as_of_option
@click.argument("event_id", metavar="ID")
@click.option("--workspace", envvar="ARCHIVER_WORKSPACE", show_envvar=True, help="Look in this one only.")
@click.option(
    "--scan",
    is_flag=True,
    envvar="ARCHIVER_SCAN",
    show_envvar=True,
    help="Believe no index: read the ids of every file. For an auditor; slow in a large archive.",
)
def explain_command(context: Context, event_id: str, workspace: str | None, scan: bool) -> None:
    """Say where an event came from: delivery, batch, commit, file, row, twins and conflicts.

    \b
    The identity index says in which files to look. It is a cache, which whoever may write
    to the bucket may alter; --scan looks into all files and believes none.
    """
    from archiver.explain import explain

    places = explain(context.open_archive(), event_id, workspace=workspace, scan=scan)
    if not places:
        raise ArchiverError(
            f"{event_id}: not in the archive and not in quarantine",
            hint="a delivery may still be in the spool (archiver status), or never have come",
        )
    lines = []
    for place in places:
        lines.append(
            f"{place.what}" + (f" ({place.reason}: {printable(place.detail or '')})" if place.reason else "")
        )
        told = {
            "workspace": place.workspace,
            "dataset": place.dataset,
            "event time": place.event_time,
            "received": f"{place.received_at or 'at a time not kept'} by {place.source}",
            "input": f"{place.input}, element {place.ordinal} of its batch" if place.input else None,
            "read": _span_text(place.cursor),
            "commit": f"{place.commit} of {place.committed_at}, batch {place.batch}",
            "compacted": f"by commit {place.compacted_by}" if place.compacted_by is not None else None,
            "object": place.object + (f", row {place.row}" if place.row is not None else ""),
            "body": place.body,
        }
        lines += [f"  {name:<11}{printable(str(value))}" for name, value in told.items() if value is not None]
        lines.append("")
    context.out(
        "\n".join(lines).rstrip(),
        {"message_type": "explanation", "id": event_id, "places": [place.to_json() for place in places]},
    )


def _span_text(cursor: dict[str, Any] | None) -> str | None:
    """Say from where to where the batch was read, of a database's table."""
    after = cursor["after"] if cursor else None
    if cursor is None or not isinstance(after, dict):
        return None
    before = cursor["before"]
    since = f"behind {_place_text(before)}" if isinstance(before, dict) else "from the first row"
    return f"{after.get('table')}, {since}, up to {_place_text(after)} ({after.get('strategy')})"


def _place_text(cursor: dict[str, Any]) -> str:
    position, key = str(cursor.get("position")), cursor.get("key")
    if cursor.get("strategy") == "rowid" or not isinstance(key, list):
        return position  # of SQLite it tells a row apart by itself
    return f"{position}, key {', '.join(map(str, key))}"
