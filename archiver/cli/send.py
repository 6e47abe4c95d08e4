"""`archiver send`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.common import json_text, option_with_variable, printable
from archiver.cli.text import bytes_text, plural
from archiver.errors import ArchiverError
from archiver.progress import Progress, Silent
from archiver.streams import DEFAULT_SECRET_VARIABLE

if TYPE_CHECKING:
    from archiver.send import SendReport

_FILE = click.Path(dir_okay=False, path_type=Path)


_option = partial(option_with_variable, prefix="SEND_", show_default=True)


@click.command(
    "send",
    epilog="Exit codes: 0 all acknowledged · 1 some were not, or could not be read · "
    "2 usage or configuration · 130 interrupted",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_option(
    "--to", required=True, metavar="URL", help="A stream of the receiver: http://127.0.0.1:8080/webhook."
)
@_option(
    "--secret-env", metavar="NAME", help=f"Variable with the secret.  [default: {DEFAULT_SECRET_VARIABLE}]"
)
@_option("--secret-file", type=_FILE, metavar="FILE", help="File with the secret; its first line signs.")
@_option("--concurrency", type=click.IntRange(1, 1024), default=4, help="Deliveries under way at once.")
@_option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N a second.")
@_option("--repeats", type=click.FloatRange(0, 1), default=0.0, help="Share that is sent again on purpose.")
@_option("--shuffle", is_flag=True, show_default=False, help="In another order, within a window of 10,000.")
@_option("--seed", type=int, default=0, help="The same seed repeats the same ones, and shuffles alike.")
@_option(
    "--retries", type=click.IntRange(min=0), default=5, help="Of one delivery, behind its first attempt."
)
@_option(
    "--backoff",
    type=click.FloatRange(min=0),
    default=0.5,
    metavar="SECONDS",
    help="About the wait before the first retry; doubles with each, up to 30 s.",
)
@_option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    metavar="SECONDS",
    help="How long a connection may be silent.",
)
@_option(
    "--stop-after",
    type=click.IntRange(min=0),
    default=3,
    metavar="N",
    help="Stop after N failed attempts in a row, as the vendor does; 0 never stops.",
)
@_option(
    "--not-delivered",
    type=_FILE,
    metavar="FILE.seg",
    help="Keep here what was not acknowledged, for another `archiver send`.",
)
@_option("--ca-file", type=_FILE, metavar="FILE", help="Certificates to trust, as PEM, for https.")
@_option("--report", type=_FILE, metavar="FILE", help="Also write the report, as JSON, to this file.")
@_option("--dry-run", is_flag=True, show_default=False, help="Read, count and sign; send nothing.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="ARCHIVER_JSON",
    show_envvar=True,
    help="Print one JSON document.",
)
@click.option("--quiet", "-q", is_flag=True, envvar="ARCHIVER_QUIET", show_envvar=True, help="No progress.")
@click.pass_context
def send_command(
    click_context: click.Context,
    /,
    files: tuple[str, ...],
    to: str,
    secret_env: str | None,
    secret_file: Path | None,
    backoff: float,
    timeout: float,
    not_delivered: Path | None,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Sign deliveries and send them to a receiver, as the vendor of the log streams does.

    For demos, tests and load, and to bring deliveries back after a stream had stopped. FILE is
    a segment (.seg: each delivery byte for byte), JSON lines (.jsonl, .ndjson) or JSON (.json),
    the last three also with .gz or .zst; a folder of them; or - for JSON lines on stdin.

    \b
      export ARCHIVER_WEBHOOK_SECRET=…      the one that the receiver has
      archiver send --to http://127.0.0.1:8080/webhook --not-delivered rest.seg events.jsonl
      archiver send --to http://127.0.0.1:8080/webhook rest.seg

    A failed attempt is tried again, with growing waits; 401, 404, 405, 413 and other answers
    that will not change are not. After three failed attempts in a row, of whichever
    deliveries, the stream stops. What is sent twice does no harm: the archive knows it by its id.
    """
    from archiver.send import NotDelivered, SendOptions, SendReport, open_inputs, send
    from archiver.signature import read_secrets

    names = (secret_env,) if secret_env else () if secret_file else (DEFAULT_SECRET_VARIABLE,)
    secrets = read_secrets(names, (secret_file,) if secret_file else ())
    inputs = open_inputs(files)
    options = SendOptions(
        backoff_seconds=backoff,
        timeout_seconds=timeout,
        counts_rest=not inputs.reads_standard_input,
        **given,
    )
    rest = NotDelivered(not_delivered) if not_delivered else None
    result = SendReport()
    try:
        send(
            inputs,
            to,
            secrets,
            options,
            _progress(quiet=quiet or as_json),
            report=result,
            on_not_acknowledged=(lambda posting: rest.keep(posting.body)) if rest else None,
        )
    except KeyboardInterrupt:
        result.interrupted = True
    except ArchiverError as error:
        if rest and not result.acknowledged:
            rest.discard()  # all is still where it was
        error.hint = _with_what_was_done(error.hint, result, rest.seal() if rest else None)
        _write_report(report, result)
        raise
    kept = rest.seal() if rest else None
    _write_report(report, result)
    document = result.to_json() | {"kept_in": None if kept is None else str(kept)}
    click.echo(json_text(document) if as_json else printable(send_text(result, kept)))
    click_context.exit(130 if result.interrupted else 0 if result.is_complete else 1)


def send_text(report: SendReport, kept: Path | None = None) -> str:
    """Return the summary of a sending; its counts add up before the reader's eyes."""
    if report.dry_run:
        again = f", {report.repeats:,} of them twice" if report.repeats else ""
        count = plural(report.deliveries, "delivery", "deliveries")
        lines = [f"{count}{again}, {bytes_text(report.bytes)}, would be sent"]
        return "\n".join(lines + [f"problem: {one}" for one in report.problems])
    p50, p99 = report.latencies.quantile(0.5), report.latencies.quantile(0.99)
    latency = f"half in {p50 * 1000:.1f} ms, 99 % in {p99 * 1000:.1f} ms" if p50 and p99 else ""
    answers = ", ".join(f"{answer}: {count:,}" for answer, count in report.answers.most_common())
    lines = [
        f"deliveries        {report.deliveries:>12,}   in {report.seconds:.1f} s, {report.rate:,.0f}/s",
        f"= acknowledged    {report.acknowledged:>12,}   {latency}".rstrip(),
        f"+ not acknowledged{report.not_acknowledged:>12,}",
    ]
    if report.repeats:
        failed = report.repeats - report.repeats_acknowledged
        told = f"; {failed:,} of them not acknowledged" if failed else "; all acknowledged"
        lines.append(f"sent twice        {report.repeats:>12,}   on purpose{told}")
    if report.retries:
        lines.append(f"retries           {report.retries:>12,}")
    lines.append(f"answers           {report.attempts:>12,}   {answers or 'none'}")
    lines += [f"problem: {problem}" for problem in report.problems]
    if report.unreadable > len(report.problems):
        lines.append(f"problem: {report.unreadable - len(report.problems):,} more stretches hold no delivery")
    if report.not_acknowledged and report.last_failure and not report.stopped:
        lines.append(f"the last failure: {report.last_failure}")
    if report.stopped:
        lines.append(f"stopped: {report.stopped}")
    if report.interrupted:
        lines.append("interrupted: what was under way may have arrived")
    if report.rest_unread:
        lines.append("the rest of the input was not read, and is not counted")
    if kept:
        lines.append(f"what was not acknowledged is in {kept}: once the cause is mended, send that file")
    elif report.not_acknowledged or report.rest_unread:
        lines.append(
            "once the cause is mended, send the same again: what is archived already counts as duplicate; "
            "with --not-delivered FILE.seg only the rest need be sent"
        )
    return "\n".join(lines)


def _with_what_was_done(hint: str, report: SendReport, kept: Path | None) -> str:
    told = [hint] if hint else []
    if report.acknowledged:
        told.append(
            f"{plural(report.acknowledged, 'delivery', 'deliveries')} of {report.deliveries:,} acknowledged"
        )
    if kept:
        unread = " of what could be read" if report.rest_unread else ""
        told.append(f"what was not{unread} is in {kept}")
    return "; ".join(told)


def _progress(*, quiet: bool) -> Progress:
    if quiet or not sys.stderr.isatty():
        return Silent()
    from archiver.cli.bars import Bars

    return Bars()


def _write_report(path: Path | None, report: SendReport) -> None:
    from archiver import durable

    if path is None:
        return
    try:
        durable.replace(path, json_text(report.to_json()).encode() + b"\n")
    except OSError as error:
        raise ArchiverError(f"{path}: the report cannot be written: {error.strerror}") from error
