"""`archiver receive`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import (
    EXIT_CODES,
    Context,
    json_text,
    option_with_variable,
    printable,
    settings_options,
)
from archiver.cli.text import plural
from archiver.errors import ConfigError
from archiver.streams import (
    DEFAULT_SECRET_VARIABLE,
    DEFAULT_STREAM,
    Stream,
    check_receive,
    check_streams,
)

if TYPE_CHECKING:
    from archiver.config import Settings


@click.command("receive", epilog=EXIT_CODES)
@settings_options
@option_with_variable(
    "--spool", metavar="DIR", help="Folder that the deliveries go to; for streams that name none."
)
@option_with_variable(
    "--listen", metavar="HOST:PORT", help="Default 127.0.0.1:8080; port 0 takes a free one."
)
@option_with_variable(
    "--secret-env",
    multiple=True,
    metavar="NAME",
    help=f"Variable with the signing secret, one a line; default {DEFAULT_SECRET_VARIABLE}.",
)
@option_with_variable(
    "--secret-file", multiple=True, metavar="FILE", help="File with the signing secret, one a line."
)
@option_with_variable(
    "--path", metavar="PATH", help=f"Of the one stream, if none is configured; default /{DEFAULT_STREAM}."
)
@option_with_variable("--tls-cert", metavar="FILE", help="Certificate chain as PEM: HTTPS without a proxy.")
@option_with_variable("--tls-key", metavar="FILE", help="Its key as PEM, without a password.")
@option_with_variable(
    "--metrics-listen",
    metavar="HOST:PORT",
    help="Answer /healthz, /readyz and /metrics here, and not at --listen.",
)
@option_with_variable("--seal-seconds", type=float, help="`run` sees a delivery after so long; default 5.")
@option_with_variable("--seal-bytes", type=int, help="A segment is sealed at this size; default 64 MiB.")
@option_with_variable(
    "--min-free-bytes", type=int, help="Refuse with less room on the disk; default 128 MiB."
)
@option_with_variable("--max-connections", type=int, help="Open at once; default 1024.")
@option_with_variable("--check", "only_check", is_flag=True, help="Read configuration and secrets, and end.")
def receive_command(context: Context, only_check: bool, **options: Any) -> None:
    """Take signed deliveries over HTTP into the spool; a delivery that was answered 2xx is not lost.

    The answer comes when the delivery is on the disk. What a delivery contains is not looked
    at: `archiver run` does that, and keeps what it rejects. Only deliveries with a wrong
    signature are refused (401), and all of them (503) when the disk is nearly full or fails.

    \b
      export ARCHIVER_WEBHOOK_SECRET=…          as the sender's page shows it
      archiver receive --spool /var/spool/archiver --listen 127.0.0.1:8080
      then let the sender deliver to  https://…/webhook

    Several streams, each with its path, secrets, spool and workspaces, stand as
    [streams.NAME] in archiver.toml. SIGTERM stores and answers what was taken, and ends;
    SIGHUP reads secrets and certificate again, for their rotation.
    """
    from archiver.receiver import check, serve

    settings = _with_options(context.settings, **options)
    found = check(settings)
    streams = [
        {"name": name, "path": stream.path, "spool": str(spool), "secrets": count}
        for name, stream, spool, count in found
    ]
    if only_check:
        context.out(_streams_text(streams), {"message_type": "checked", "streams": streams})
        return

    def tell(url: str) -> None:
        document = {"message_type": "listening", "url": url, "streams": streams}
        click.echo(json_text(document) if context.json else f"listening on {url}")

    if not context.quiet and not context.json:
        click.echo(_streams_text(streams), err=True)
    serve(settings, tell)


def _streams_text(streams: list[dict[str, Any]]) -> str:
    return "\n".join(
        printable(
            f"stream {one['name']}: {one['path']} -> {one['spool']} ({plural(one['secrets'], 'secret')})"
        )
        for one in streams
    )


def _with_options(
    settings: Settings,
    *,
    spool: str | None,
    secret_env: tuple[str, ...],
    secret_file: tuple[str, ...],
    path: str | None,
    **options: Any,
) -> Settings:
    """Lay the flags over the configured streams and limits."""
    if spool is not None:
        settings = replace(settings, spools=(spool,))
    given = {name: value for name, value in options.items() if value is not None}
    receive = check_receive("the command line", replace(settings.receive, **given))
    streams = settings.streams
    if streams:
        if secret_env or secret_file or path:
            raise ConfigError(
                "--secret-env, --secret-file and --path are for one stream, but several may be configured",
                hint="write secret_env, secret_file and path under [streams.NAME] in archiver.toml",
            )
    else:
        if not secret_env and not secret_file:
            secret_env = (DEFAULT_SECRET_VARIABLE,)
        files = tuple(str(Path(file).absolute()) for file in secret_file)
        one = Stream(path or f"/{DEFAULT_STREAM}", secret_env, files)
        streams = check_streams("the command line", {DEFAULT_STREAM: one})
    return replace(settings, receive=receive, streams=streams)
