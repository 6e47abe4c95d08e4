"""`archiver ddl`."""

from __future__ import annotations

from typing import Final

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, option_with_variable, printable
from archiver.cli.target import open_target

ENGINES: Final = ("athena", "glue", "trino", "spark", "bigquery")


@click.command("ddl", epilog=EXIT_CODES)
@archive_options
@click.argument("engine", type=click.Choice(ENGINES))
@option_with_variable(
    "--database", default="archiver", show_default=True, metavar="NAME", help="Where tables and views go."
)
@option_with_variable(
    "--location", metavar="URL", help="Where the engine finds the archive; default: where it is."
)
@option_with_variable(
    "--catalog", metavar="NAME", help="Trino: the catalog; default: delta, or hive for JSON lines."
)
@option_with_variable("--connection", metavar="NAME", help="BigQuery: project.region.name.")
@option_with_variable(
    "--partitions",
    type=click.Choice(["registered", "projected"]),
    default="registered",
    show_default=True,
    help="JSON lines on Athena and Glue.",
)
@option_with_variable(
    "--queries", "folders", multiple=True, metavar="DIR", help="More queries to make views of; several times."
)
@click.option(
    "--views/--no-views",
    default=True,
    envvar="ARCHIVER_VIEWS",
    show_envvar=True,
    help="Whether to make a view of each named query.",
)
@option_with_variable("--output", "-o", metavar="FILE", help="Write there; it appears when it is whole.")
def ddl_command(
    context: Context,
    engine: str,
    database: str,
    location: str | None,
    catalog: str | None,
    connection: str | None,
    partitions: str,
    folders: tuple[str, ...],
    views: bool,
    output: str | None,
) -> None:
    """Print the statements that make the archive's events a table on another engine.

    \b
      archiver ddl athena --database security
      archiver ddl glue > events.json
      aws glue create-table --database-name security --table-input file://events.json
      archiver ddl spark --location s3a://audit-archive/production > archiver.sql

    The table is `events`, by its Delta log: an engine sees the snapshot of a commit. Each named
    query becomes a view with its default parameters; `archiver query NAME --print --dialect`
    prints it with others. Athena and Glue read s3:// alone, and Athena keeps milliseconds of times.
    What supplements add to events is not shown there.

    An archive of JSON lines gets the table events_lines and the view events over it. On Athena its
    partitions are registered: run it again for new days. Or they are projected: then each query
    must name one workspace (as it is escaped in the archive), and no views are made.
    """
    from archiver.query import ddl
    from archiver.query.catalog import Catalog

    archive = context.open_archive()
    target = ddl.target_of(
        archive,
        engine,
        location=location,
        database=database,
        catalog=catalog,
        connection=connection,
        partitions=partitions,
    )
    text = ddl.text(target, Catalog.of(folders or context.settings.queries) if views else None)
    if output is not None:
        with open_target(output, archive.store) as stream:
            stream.write(f"{text}\n".encode())
    else:
        context.out(printable(text), {"message_type": "ddl", "engine": engine, "text": text})
