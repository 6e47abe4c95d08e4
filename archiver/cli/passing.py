"""A group of commands whose options may stand before the command's name, too."""

from __future__ import annotations

import click
from click.core import ParameterSource


class Passing(click.Group):
    """Hands the options that stand before a command's name on to the command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, [args[0], *given_before(ctx), *args[1:]])


class Showing(Passing):
    """Says of a name that is no command of its own how to ask for it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            hint = "`archiver queries show NAME` shows a query, `archiver query NAME` asks it"
            raise click.UsageError(f"No such command {args[0]!r}: {hint}.", ctx)
        return super().resolve_command(ctx, args)


def given_before(ctx: click.Context) -> list[str]:
    """Return the options that stand before a command's name, as words to stand behind it."""
    words: list[str] = []
    for option in ctx.command.params:
        if ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            value = ctx.params[option.name or ""]
            if isinstance(option, click.Option) and option.is_flag:
                words += [option.opts[0]] if value else []
            else:
                for one in value if isinstance(value, tuple) else (value,):
                    words += [option.opts[0], str(one)]
    return words
