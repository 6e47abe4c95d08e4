"""`archiver generate`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import option_with_variable
from archiver.cli.text import bytes_text, plural
from archiver.progress import Progress, Silent

if TYPE_CHECKING:
    from archiver.generate import Generated

_SHARE = click.FloatRange(0, 1)


_option = partial(option_with_variable, prefix="GENERATE_", show_default=True)


@click.command(
    "generate",
    epilog="Exit codes: 0 done · 1 could not write · 2 usage or configuration · 130 interrupted",
)
@_option("--events", type=click.IntRange(min=0), default=50_000, help="Deliveries of all kinds together.")
@_option("--seed", type=int, default=0, help="The same seed gives the same deliveries, byte for byte.")
@_option("--workspaces", type=click.IntRange(min=1), default=60, help="A few busy ones, many quiet ones.")
@_option("--days", type=click.IntRange(1, 10_000), default=5, help="Days of UTC they are spread over.")
@_option("--until", type=click.DateTime(["%Y-%m-%d"]), default="2026-03-31", help="The last of these days.")
@_option("--invalid", type=_SHARE, default=0.01, help="Share that must end in quarantine.")
@_option("--duplicates", type=_SHARE, default=0.005, help="Share that comes again, soon or days later.")
@_option("--supplements", type=_SHARE, default=0.0, help="Share that comes again and tells more.")
@_option("--conflicts", type=_SHARE, default=0.0, help="Share that comes again and contradicts.")
@_option("--alerts", type=_SHARE, default=0.01, help="Share of alerts.")
@_option(
    "--as",
    "as_",
    type=click.Choice(["segments", "jsonl"]),
    default="segments",
    help="Sealed segments, as the receiver writes them, or files of JSON lines.",
)
@_option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to write to; a spool in use will do.",
)
@click.option("--json", "as_json", is_flag=True, envvar="ARCHIVER_JSON", help="Print one JSON document.")
@click.option("--quiet", "-q", is_flag=True, envvar="ARCHIVER_QUIET", help="No progress.")
def generate_command(out: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Make deliveries like those of the vendor's log streams, to try the archive on.

    Most are valid events of many senders: flat and nested, compact and spaced, with text of
    several scripts, metadata and unknown members. Some are alerts, some come twice, some are
    broken in about forty ways. With 2,000 or more, one account of the busiest workspace is
    taken over in the night of the middle day; the queries that come with the program find it.

    \b
      archiver generate --events 50000 --out ./spool
      archiver run --spool ./spool --archive ./archive

    Nobody in them is real. The counts are kept in DIR/.manifest.json, to compare with what
    the archive says.
    """
    from archiver.generate import generate

    options["until"] = options["until"].date()
    done = generate(out=out, progress=_progress(quiet=quiet or as_json), **options)
    if as_json:
        click.echo(json.dumps({"message_type": "generated", "out": str(out)} | done.as_json()))
    else:
        click.echo(_text(done, out))


def _progress(*, quiet: bool) -> Progress:
    if quiet or not sys.stderr.isatty():
        return Silent()
    from archiver.cli.bars import Bars

    return Bars()


def _text(done: Generated, out: Path) -> str:
    repeats = done.duplicates + done.supplements + done.conflicts
    return "\n".join(
        [
            f"generated    {done.deliveries:>12,}   deliveries, {bytes_text(done.bytes)}, "
            f"{plural(len(done.files), 'file')} in {click.format_filename(out)}",
            f"= events     {done.events:>12,}",
            f"+ alerts     {done.alerts:>12,}",
            f"+ repeats    {repeats:>12,}   {plural(done.duplicates, 'duplicate')}, "
            f"{plural(done.supplements, 'supplement')}, {plural(done.conflicts, 'conflict')}",
            f"+ invalid    {done.invalid:>12,}   of {plural(len(done.invalid_by_fault), 'kind')}",
        ]
    )
