"""`archiver query` and `archiver queries`: the named queries; each is a command with options of its own."""

from __future__ import annotations

import os
from typing import Any

import click

from archiver.cli.answering import answer_options, print_answer
from archiver.cli.common import EXIT_CODES, Context, archive_options, as_of_option
from archiver.query.catalog import Catalog, Parameter, Query


class _Queries(click.Group):
    """Makes a command of a query when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _catalog(ctx).names()

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        catalog = _catalog(ctx)
        wanted = name.replace("-", "_")
        return _command(catalog.get(wanted)) if wanted in catalog.names() else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Queries"):
            formatter.write_dl([(query.name, query.answers) for query in _catalog(ctx)])


@click.command(
    "query", cls=_Queries, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--queries",
    "folders",
    multiple=True,
    envvar="ARCHIVER_QUERIES",
    show_envvar=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="A folder of *.sql files of your own; several times.",
)
def query_group(folders: tuple[str, ...]) -> None:
    """Ask a named query: `archiver query NAME --help` tells what it answers, and its options.

    \b
      archiver query failed_logins --since 7d
      archiver query failed_logins --at-least 20 --workspace ws_1a2b3c4d --format csv --output failed.csv
    """


@click.group("queries", invoke_without_command=True, epilog=EXIT_CODES)
@click.pass_context
def queries_group(ctx: click.Context) -> None:
    """List the named queries, or show one."""
    if ctx.invoked_subcommand is None:
        for query in Catalog():
            click.echo(f"{query.name:<28}{query.answers}")


@queries_group.command("show")
@click.argument("name")
def show_command(name: str) -> None:
    """Print a query as its file has it."""
    click.echo(Catalog().get(name).path.read_text(encoding="utf-8"), nl=False)


def _catalog(ctx: click.Context) -> Catalog:
    return Catalog.of(ctx.params.get("folders") or ())


def _command(query: Query) -> click.Command:
    def ask(
        context: Context, *, form: str | None, output: str | None, raw: bool, limits: Any, **given: Any
    ) -> None:
        told = {name: value for name, value in given.items() if value is not None}
        print_answer(
            context, query.statement, query.bind(told), form=form, output=output, raw=raw, limits=limits
        )

    command = archive_options(as_of_option(answer_options(ask)))
    for parameter in reversed(query.parameters):
        command = _option(parameter)(command)
    return click.command(
        query.name, help=f"{query.title}. {query.answers}\n\n{query.when}", epilog=EXIT_CODES
    )(command)


def _option(parameter: Parameter) -> Any:
    shown = "none" if parameter.default is None else str(parameter.default)
    return click.option(
        "--" + parameter.name.replace("_", "-"),
        parameter.name,
        metavar=parameter.kind,
        help=f"{parameter.told}  [default: {shown}]",
    )


_ = os
