"""`archiver query` and `archiver queries`: the named queries; each is a command with options of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from archiver.cli.answering import Limits, answer_options, print_answer
from archiver.cli.common import (
    EXIT_CODES,
    Context,
    archive_options,
    as_of_option,
    json_text,
    option_with_variable,
    printable,
    read_found_settings,
    settings_options,
)
from archiver.cli.passing import Passing, Showing, given_before
from archiver.errors import ArchiverError
from archiver.query.catalog import Catalog, Entry, Parameter, Query, by_topic, text_of_file

DIALECTS: Final = ("athena", "trino", "spark", "bigquery", "duckdb")
# These mean in every query what they mean in `archiver sql`. What else a query can be told has no
# variable: an answer should not depend on what a shell remembers of another question.
WITH_VARIABLES: Final = ("since", "until", "workspace")
_METAVARS: Final = {"VARCHAR": "TEXT", "INTEGER": "NUMBER", "DOUBLE": "NUMBER", "TIMESTAMP": "TIME"}
_TIMES: Final = {"1h": "an hour ago", "24h": "a day ago", "7d": "a week ago", "30d": "30 days ago"}
_LIST_WIDTH: Final = 4_000  # where nobody looks, one line a query


def _folders_option(function: Callable[..., Any]) -> Callable[..., Any]:
    add = option_with_variable(
        "--queries",
        "folders",
        multiple=True,
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="A folder of *.sql files of your own, several times; default: [queries] of the configuration.",
    )
    return add(function)  # type: ignore[no-any-return]


def _config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    add = option_with_variable("--config", "-c", metavar="FILE", help="Configuration.")
    return add(function)  # type: ignore[no-any-return]


def _program_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a query's command the options that all of them have."""
    for option in (
        option_with_variable("--dialect", type=click.Choice(DIALECTS), help="Of --print; default: duckdb."),
        option_with_variable(
            "--print", "prints", is_flag=True, help="Print the statement with its values, and ask nothing."
        ),
        click.option(
            "--draw/--no-draw",
            default=None,
            envvar="ARCHIVER_DRAW",
            show_envvar=True,
            help="Draw bars or lines below the table; default: on a terminal.",
        ),
    ):
        function = option(function)
    return archive_options(as_of_option(answer_options(_folders_option(function))))


class _Queries(Passing):
    """Makes a command of a query when it is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            behind = f"{ctx.command_path} NAME {error.option_name} …"
            message = f"{error.format_message()} What a query takes stands behind its name: {behind}"
            raise click.UsageError(message, ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing:
            catalog = ctx.meta[__name__] = _catalog_for([*given_before(ctx), *args[1:]])
            catalog.get(args[0].replace("-", "_"))  # or else it says what was probably meant
        else:
            ctx.meta[__name__] = _catalog_anyhow([*given_before(ctx), *args[1:]])
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [query.name for query in self._catalog(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        wanted = name.replace("-", "_")
        catalog = self._catalog(ctx)
        entry = catalog.entry(wanted) if wanted in catalog.names() else None
        return _command(entry.query) if entry is not None and entry.query is not None else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        if incomplete and not incomplete[0].isalnum():
            return super().shell_complete(ctx, incomplete)
        return _names(self._catalog(ctx), incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_entries(formatter, self._catalog(ctx).entries())

    @staticmethod
    def _catalog(ctx: click.Context) -> Catalog:
        found = ctx.meta.get(__name__)
        return found if isinstance(found, Catalog) else _catalog_anyhow(given_before(ctx))


class _Asking(click.Command):
    """Asks one query; its help teaches what it answers."""

    def __init__(self, query: Query, **parts: Any) -> None:
        super().__init__(query.name, help=query.title, **parts)
        self.query = query

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        order = [] if ctx.resilient_parsing else self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in order:
            if isinstance(option, ParameterOption) and order.count(option) > 1:
                raise click.UsageError(f"{option.opts[0]} stands there twice, and takes one value", ctx)
        return super().parse_args(ctx, args)

    def format_help_text(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"{_safe(self.query.title)}. {_safe(self.query.answers)}")
            formatter.write_paragraph()
            formatter.write_text(f"When: {_safe(self.query.when)}")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_query(formatter, self.query)
        with formatter.section("Examples"):
            formatter.write(
                "".join(f"{'':{formatter.current_indent}}{line}\n" for line in examples(self.query))
            )
        rows = [
            record
            for option in self.get_params(ctx)
            if not isinstance(option, ParameterOption) and (record := option.get_help_record(ctx))
        ]
        with formatter.section("Options of every query"):
            formatter.write_dl(rows)


class ParameterOption(click.Option):
    """The option of a query's parameter, read by the query itself."""

    def __init__(self, parameter: Parameter) -> None:
        option = parameter.name.replace("_", "-")
        is_boolean = parameter.kind == "BOOLEAN"
        default = f"default: {parameter.default_text}" if parameter.default_text else ""
        rules = "; ".join(filter(None, (default, parameter.extent)))
        has_variable = parameter.name in WITH_VARIABLES
        super().__init__(
            [f"--{option}/--no-{option}" if is_boolean else f"--{option}", f"told_{parameter.name}"],
            default=None,
            is_flag=is_boolean,
            metavar=_METAVARS.get(parameter.kind),
            help=_safe(parameter.told + (f"  [{rules}]" if rules else "")),
            envvar=f"ARCHIVER_{parameter.name.upper()}" if has_variable else None,
            show_envvar=has_variable,
        )
        self.parameter = parameter

    def shell_complete(self, _: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        times = _TIMES if self.parameter.kind == "TIMESTAMP" else {}
        return [CompletionItem(one, help=told) for one, told in times.items() if one.startswith(incomplete)]


@click.command(
    "query",
    cls=_Queries,
    subcommand_metavar="NAME [ARGS]...",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_config_option
@_folders_option
def query_group(**_: Any) -> None:
    """Ask a named query: `archiver query NAME --help` tells what it answers, and its options.

    \b
      archiver query failed_logins --since 7d
      archiver query failed_logins --at-least 20 --workspace ws_1a2b3c4d --format csv --output failed.csv
      archiver query failed_logins --since 7d --print --dialect athena

    The files are read as they lie there: that nobody altered them is what `archiver verify` proves.
    --verbose and --json name the commit that an answer is of.
    """


@click.group("queries", cls=Showing, invoke_without_command=True, epilog=EXIT_CODES)
@settings_options
@_folders_option
@click.pass_context
def queries_group(ctx: click.Context, context: Context, folders: tuple[str, ...]) -> None:
    """List the named queries: those that came with the program, and your own. Or show one."""
    if ctx.invoked_subcommand is not None:
        return
    entries = Catalog.of(folders or context.settings.queries).entries()
    formatter = click.HelpFormatter(width=None if sys.stdout.isatty() else _LIST_WIDTH, max_width=120)
    _write_entries(formatter, entries)
    formatter.write("\narchiver queries show NAME tells more; archiver query NAME asks.\n")
    documents = [_document(entry) for entry in entries]
    context.out(formatter.getvalue().strip("\n"), {"message_type": "queries", "queries": documents})


@queries_group.command("show")
@settings_options
@_folders_option
@option_with_variable("--sql", "as_sql", is_flag=True, help="Print the file as it is, to copy or to pipe.")
@click.argument("name", shell_complete=lambda ctx, _, incomplete: _names(_catalog_in(ctx), incomplete))
def show_command(context: Context, name: str, folders: tuple[str, ...], *, as_sql: bool) -> None:
    """Tell all about one query: what it answers, its parameters, its columns, its SQL."""
    catalog = Catalog.of(folders or context.settings.queries)
    entry = catalog.entry(name.replace("-", "_"))
    query = catalog.get(entry.name)
    if as_sql and not context.json:
        _print(text_of_file(query.path).rstrip("\n"))
        return
    formatter = click.HelpFormatter()
    formatter.write(f"{query.name}: {_safe(query.title)}\n\n")
    formatter.write_text(_safe(query.answers))
    formatter.write_text(f"When: {_safe(query.when)}")
    _write_query(formatter, query)
    formatter.write(f"\nFrom {printable(str(query.path))}{_instead(entry)}\n\n{query.statement}")
    if context.json:
        click.echo(json_text({"message_type": "query"} | _document(entry) | {"sql": query.statement}))
    else:
        _print(formatter.getvalue())


def examples(query: Query) -> list[str]:
    """Return commands that ask the query."""
    names = [one.name for one in query.parameters]
    first = f"archiver query {query.name}" + (" --since 7d" if "since" in names else "")
    more = next((one for one in query.parameters if one.kind in ("INTEGER", "DOUBLE")), None)
    told = f" --{more.name.replace('_', '-')} {more.default_text}" if more and more.default_text else ""
    return [
        first,
        f"archiver query {query.name}{told} --format csv --output {query.name}.csv",
        f"{first} --print --dialect athena",
    ]


def _command(query: Query) -> click.Command:
    def ask(
        context: Context,
        *,
        form: str | None,
        output: str | None,
        raw: bool,
        limits: Limits,
        draw: bool | None,
        prints: bool,
        dialect: str | None,
        **more: Any,
    ) -> None:
        told = {name.removeprefix("told_"): value for name, value in more.items() if name[:5] == "told_"}
        values = query.bind(told)
        _check_together(click.get_current_context(), query, form=form, prints=prints)
        if prints:
            from archiver.query.dialect import translate

            text = translate(query, values, dialect or "duckdb")
            document = {"message_type": "statement", "query": query.name, "dialect": dialect or "duckdb"}
            if context.json:
                click.echo(json_text(document | {"sql": text}))
            else:
                _print(text)
            return
        print_answer(
            context,
            query.statement,
            values,
            form=form,
            output=output,
            raw=raw,
            limits=limits,
            query=query,
            draw=draw,
        )

    # The decorators hang their options on the function; the query's own come first.
    program = click.command()(_program_options(ask))
    options = [ParameterOption(one) for one in query.parameters]
    return _Asking(query, callback=program.callback, params=[*options, *program.params], epilog=EXIT_CODES)


def _check_together(ctx: click.Context, query: Query, *, form: str | None, prints: bool) -> None:
    """Refuse options that mean nothing beside each other; a variable is only left out of account."""

    def is_told(name: str) -> bool:
        return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE

    if prints:
        for name, option in {"output": "--output", "form": "--format", "draw": "--draw"}.items():
            if is_told(name):
                raise click.UsageError(f"--print prints a statement and asks nothing: leave out {option}")
    elif is_told("dialect"):
        raise click.UsageError("DuckDB asks; --dialect is for --print")
    if is_told("draw") and ctx.params["draw"]:
        if form not in (None, "table"):
            raise click.UsageError("--draw draws below a table: leave out --format")
        if query.drawing is None:
            raise click.UsageError(f"the header of {query.name} does not say what to draw")


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@_program_options
@click.argument("words", nargs=-1)
def probe(**_: Any) -> None:
    """Find --queries and --config between the options of a query that is not known yet. Never run."""


def _catalog_for(words: Sequence[str]) -> Catalog:
    """Return the queries for a command line, whose --queries and --config may stand anywhere in it."""
    with probe.make_context("query", list(words), resilient_parsing=True) as ctx:
        return _catalog_in(ctx, anyhow=False)


def _catalog_anyhow(words: Sequence[str]) -> Catalog:
    """As `_catalog_for`, for completion and help: without the folders of a user if they are not there."""
    try:
        return _catalog_for(words)
    except ArchiverError:
        return Catalog()


def _catalog_in(ctx: click.Context, *, anyhow: bool = True) -> Catalog:
    try:
        folders = ctx.params.get("folders") or read_found_settings(ctx.params.get("config")).queries
        return Catalog.of(folders)
    except ArchiverError:
        if not anyhow:
            raise
        return Catalog()


def _names(catalog: Catalog, incomplete: str) -> list[CompletionItem[Any]]:
    start = incomplete.replace("-", "_")
    return [
        CompletionItem(query.name, help=_safe(query.title))
        for query in catalog
        if query.name.startswith(start)
    ]


def _write_entries(formatter: click.HelpFormatter, entries: Iterable[Entry]) -> None:
    for topic, inside in by_topic(entries).items():
        rows = [
            (
                _safe(entry.name),
                _safe(entry.query.answers) + _instead(entry)
                if entry.query is not None
                else f"cannot be asked: {_safe(str(entry.path))}: {_safe(entry.problem)}",
            )
            for entry in inside
        ]
        with formatter.section(_safe(topic)):
            formatter.write_dl(rows)


def _write_query(formatter: click.HelpFormatter, query: Query) -> None:
    parameters = []
    for one in map(ParameterOption, query.parameters):
        with click.Context(click.Command(query.name)) as ctx:
            parameters.append(one.get_help_record(ctx))
    if rows := [row for row in parameters if row is not None]:
        with formatter.section("Parameters"):
            formatter.write_dl(rows)
    if query.columns:
        with formatter.section("Columns of the answer"):
            formatter.write_dl([(one.name, f"{_safe(one.told)}  [{one.kind}]") for one in query.columns])


def _instead(entry: Entry) -> str:
    return "" if entry.replaces is None else f"  (in place of {printable(str(entry.replaces))})"


def _document(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": entry.name,
        "topic": entry.topic,
        "path": str(entry.path),
        "is_own": entry.is_own,
        "replaces": None if entry.replaces is None else str(entry.replaces),
        "problem": entry.problem or None,
    }
    query = entry.query
    if query is None:
        return found
    drawing = query.drawing
    return found | {
        "title": query.title,
        "answers": query.answers,
        "when": query.when,
        "parameters": [
            {
                "name": one.name,
                "type": one.kind,
                "default": one.default_text or None,
                "least": one.least,
                "most": one.most,
                "meaning": one.told,
            }
            for one in query.parameters
        ],
        "columns": [{"name": one.name, "type": one.kind, "meaning": one.told} for one in query.columns],
        "draw": None
        if drawing is None
        else {"kind": drawing.kind, "column": drawing.column, "by": drawing.by},
    }


def _safe(text: str) -> str:
    """Return a text of a header as a terminal may have it; on one line."""
    return printable(text.replace("\n", " "))


def _print(text: str) -> None:
    """Print SQL: as it is, but on a terminal with control characters shown."""
    click.echo("\t".join(map(printable, text.split("\t"))) if sys.stdout.isatty() else text)
