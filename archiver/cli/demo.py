"""`archiver demo`: from nothing to a verified, queried archive, with the commands shown."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from archiver.cli.common import EXIT_CODES
from archiver.cli.demo_siem import Siem, siem
from archiver.errors import ArchiverError, ConfigError, IntegrityError
from archiver.streams import DEFAULT_SECRET_VARIABLE, DEFAULT_STREAM

_MARKER = ".archiver-demo"
_SETTINGS = "archiver.toml"
_DESTINATION = """\
# A stand-in that the demo starts; it ends with it.
[destinations.siem]
type = "elastic"
url = "{url}"
index = "logs-audit-default"
body = "ecs"
gzip = false
"""
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_SHOWN = ("@timestamp", "user", "source", "organization")
_AN_OWN_QUESTION = "SELECT action, count(*) AS n FROM events GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
_QUESTIONS = (
    ("Who failed to log in, and how often?", "failed_logins"),
    ("Who got in after failing, and from where?", "success_after_failures"),
    ("Who deleted or exported in bulk?", "mass_deletion"),
)


@click.command("demo", epilog=EXIT_CODES)
@click.option(
    "--dir",
    "folder",
    default="demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ARCHIVER_DEMO_DIR",
    show_envvar=True,
    help="Where; an earlier demo there is replaced.",
)
@click.option("--events", default=20_000, show_default=True, envvar="ARCHIVER_DEMO_EVENTS", show_envvar=True)
def demo_command(folder: Path, events: int) -> None:
    """Start a receiver, send it signed deliveries, archive, forward and verify them, ask three questions."""
    _clear(folder)
    with siem() as taken:
        _show_all(folder, events, taken)


def _show_all(folder: Path, events: int, taken: Siem) -> None:
    started = time.monotonic()
    spool, archive, deliveries = folder / "spool", folder / "archive", folder / "deliveries"
    spool.mkdir()
    # A secret of this demo alone, and no settings but those that are shown.
    (folder / _SETTINGS).write_text(_DESTINATION.format(url=taken.url))
    secret = {DEFAULT_SECRET_VARIABLE: secrets.token_hex(32), "ARCHIVER_CONFIG": str(folder / _SETTINGS)}
    _say(f"1  {events:,} deliveries as a sender makes them: valid ones, invalid ones, repeated ones")
    _archiver("generate", "--events", str(events), "--out", str(deliveries))
    _say("2  A receiver: it takes what is signed with the right secret, and answers when that is on the disk")
    with _receiver(spool, secret) as url:
        _say("3  The sender delivers over HTTP, signed, in any order, and one in a hundred again")
        words = ("--to", f"{url}/{DEFAULT_STREAM}", "--shuffle", "--repeats", "0.01")
        report = folder / "sent.json"
        _archiver("send", *words, "--report", str(report), str(deliveries), environment=secret)
    click.echo("(the receiver was stopped: it has sealed what it took)")
    _say("4  One run, as cron would start it: check, archive once, keep what is rejected")
    ran = folder / "run.json"
    _archiver(
        "run",
        *("--spool", str(spool), "--archive", str(archive), "--report", str(ran)),
        fine=(0, 3),
        environment=secret,
    )
    click.echo(_sum_text(_read(deliveries / ".manifest.json"), _read(report), _read(ran)))
    _say("5  Run it again: nothing is archived twice")
    _archiver("run", "--spool", str(spool), "--archive", str(archive), environment=secret)
    _say("6  On to a SIEM (a stand-in on this machine that speaks Elasticsearch's bulk API), in ECS")
    _archiver("forward", "siem", "--spool", str(spool), environment=secret)
    click.echo(_taken_text(_read(deliveries / ".manifest.json"), taken))
    _say("7  Prove it: every commit, every object, every count")
    _archiver("verify", "--archive", str(archive), environment=secret)
    for number, (question, name) in enumerate(_QUESTIONS, start=8):
        _say(f"{number}  {question}")
        _archiver("query", name, "--archive", str(archive), environment=secret)
    _say(f"Done in {time.monotonic() - started:.0f} s. Everything lies in {folder}/:")
    click.echo(f"""\
  {archive}/events/        Parquet by workspace and day; any engine reads it
  {archive}/_quarantine/   what was rejected, byte for byte, with the reason
  {archive}/_ledger/       the chain of commits that says what counts

Try next:
  archiver status --archive {archive} --spool {spool}
  archiver quarantine list --archive {archive}
  archiver sql "{_AN_OWN_QUESTION}" --archive {archive}
  archiver queries
  archiver export --archive {archive} --since 2026-03-26 | head -n 3
  flip a byte in any file below {archive}/ and run: archiver verify --archive {archive}
The command lies in {Path(sys.executable).parent}/.""")


def _clear(folder: Path) -> None:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / _MARKER).exists():
            raise ConfigError(f"{folder}: not empty and no earlier demo", hint="choose another --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARKER).write_text("# made by `archiver demo`; it is replaced by the next one\n")


def _say(text: str) -> None:
    click.echo("\n" + click.style(text, bold=sys.stdout.isatty() and "NO_COLOR" not in os.environ))


def _show(words: tuple[str, ...]) -> None:
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    click.echo(f"$ archiver {shown}")
    sys.stdout.flush()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")} | {**more}


def _archiver(
    *words: str, fine: tuple[int, ...] = (0,), environment: Mapping[str, str] | None = None
) -> None:
    _show(words)
    command = [sys.executable, "-m", "archiver", *words]
    code = subprocess.run(command, check=False, env=_environment(environment or {})).returncode  # noqa: S603 - our own command
    if code not in fine:
        raise ArchiverError(f"archiver {words[0]} ended with {code}")


@contextmanager
def _receiver(spool: Path, secret: Mapping[str, str]) -> Iterator[str]:
    """A receiver on a free port of this machine, as long as the block lasts; gives its URL.

    It is stopped whatever happens in the block, an interruption or SIGTERM included.
    """
    words = ("receive", "--spool", str(spool), "--listen", "127.0.0.1:0")
    _show(words)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "archiver", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(secret),
    )
    try:
        yield _url_of(process)
        process.terminate()
        if code := process.wait(_STOP_SECONDS):
            raise ArchiverError(f"archiver receive ended with {code}")
    except subprocess.TimeoutExpired:
        raise ArchiverError(f"archiver receive did not end within {_STOP_SECONDS:.0f} s") from None
    finally:
        _end(process)
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt


def _url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101  (for the type checker: it is a pipe)
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if not line.startswith("listening on "):
        raise ArchiverError("archiver receive did not start", hint="it says why above")
    click.echo(line.rstrip())
    return line.split()[-1]


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _taken_text(made: Mapping[str, Any], taken: Siem) -> str:
    """Show what the stand-in received, and hold it against what was made.

    Raises:
        IntegrityError: It is not each valid event once.
    """
    documents = list(taken.documents.values())
    if len(documents) != made["events"] + made["alerts"]:
        raise IntegrityError(f"made and forwarded do not add up: {made}, {len(documents)} documents")
    shown = next(one for one in documents if one["event"]["kind"] == "event")
    text = json.dumps({name: value for name, value in shown.items() if name in _SHOWN}, ensure_ascii=False)
    return f"""\
it has {len(documents):,} documents = {made["events"]:,} events + {made["alerts"]:,} alerts, each once;
{taken.repeats:,} came again and were refused by their id. One of them, in part:
  {text}"""


def _sum_text(made: Mapping[str, Any], sent: Mapping[str, Any], ran: Mapping[str, Any]) -> str:
    """Explain the run's counts by those of the sender, and hold the ones against the others.

    Raises:
        IntegrityError: They do not add up.
    """
    again = sent["repeats_acknowledged"]
    archived = made["events"] + made["alerts"]
    invalid_again = ran["quarantined"] - made["invalid"]
    valid_again = again - invalid_again
    adds_up = (
        sent["acknowledged"] == made["deliveries"]
        and ran["read"] == made["deliveries"] + again
        and ran["archived"] == archived
        and ran["duplicates"] == made["duplicates"] + valid_again
        and 0 <= invalid_again <= again
    )
    if not adds_up and sent["retries"]:
        return f"{sent['retries']:,} attempts were repeated, so the receiver may have some of them twice"
    if not adds_up:
        raise IntegrityError(f"made, sent and archived do not add up: {made}, {sent}, {ran}")
    return f"""\
it adds up: {ran["read"]:,} read = {made["deliveries"]:,} made + {again:,} that were sent twice
  archived     {archived:>8,} = {made["events"]:,} events + {made["alerts"]:,} alerts
  duplicates   {ran["duplicates"]:>8,} = {made["duplicates"]:,} repeats made + {valid_again:,} sent twice
  quarantined  {ran["quarantined"]:>8,} = {made["invalid"]:,} invalid made + {invalid_again:,} sent twice"""
