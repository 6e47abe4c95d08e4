"""`archiver init`."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, checked, write_new_file, write_options
from archiver.config import FILE_NAME, TEMPLATE


@click.command("init", epilog=EXIT_CODES)
@archive_options
@write_options
@click.option(
    "--spool", "spools", multiple=True, envvar="ARCHIVER_SPOOL", metavar="DIR", help="Written into the file."
)
@click.option(
    "--format",
    "data_format",
    type=click.Choice(["parquet", "jsonl.gz", "jsonl.zst"]),
    envvar="ARCHIVER_DATA_FORMAT",
    show_envvar=True,
    help="Of the data files, for the archive's life. Parquet unless somebody must read lines.",
)
@click.option(
    "--compression-level",
    type=click.IntRange(1, 19),
    envvar="ARCHIVER_COMPRESSION_LEVEL",
    show_envvar=True,
    help="1 is quick and nearly as small as 3.",
)
@click.option("--no-file", is_flag=True, envvar="ARCHIVER_NO_FILE", help=f"Do not write {FILE_NAME}.")
def init_command(
    context: Context,
    spools: tuple[str, ...],
    data_format: str | None,
    compression_level: int | None,
    no_file: bool,
    **_: Any,
) -> None:
    """Create an archive.

    The place is tried first: eight writers race for one name, thirty times. A store that
    lets two of them win cannot hold an archive and is refused. What is fixed for the
    archive's life (format, partitioning) stands in its first commit.
    """
    from archiver.archive import init_archive
    from archiver.datafile import Encoding

    settings = context.settings
    settings = checked(
        replace(
            settings,
            data_format=data_format or settings.data_format,
            compression_level=compression_level or settings.compression_level,
        )
    )
    store = context.open_store()
    archive = init_archive(store, Encoding(settings.data_format, settings.compression_level))  # type: ignore[arg-type]
    written = None
    if not no_file:
        folders = ", ".join(json.dumps(one) for one in (spools or settings.spools or ("./spool",)))
        text = TEMPLATE.format(location=json.dumps(settings.archive), spools=folders)
        written = FILE_NAME if write_new_file(Path(FILE_NAME), text) else None
    head = archive.ledger.snapshot
    lines = [f"created archive {archive.id} in {store.location}", f"first commit 0, {head.digest}"]
    if written:
        lines.append(f"wrote {written}: every setting, commented")
    first = (spools or settings.spools or ("./spool",))[0]
    make = "" if Path(first).is_dir() else f"mkdir -p {shlex.quote(first)} && "
    if settings.sources and not spools:
        lines.append(f"next: archiver sources inspect {min(settings.sources)}, then archiver run")
    else:
        lines.append(f"next: {make}archiver run" + ("" if written else f" --spool {shlex.quote(first)}"))
    context.out(
        "\n".join(lines),
        {
            "message_type": "archive_created",
            "archive": archive.id,
            "location": store.location,
            "head": head.sequence,
            "head_digest": head.digest,
            "config": written,
        },
    )
