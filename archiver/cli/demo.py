"""`archiver demo`: from nothing to a verified, queried archive, with the commands shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from archiver.cli.common import EXIT_CODES
from archiver.errors import ArchiverError, ConfigError

_MARKER = ".archiver-demo"
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
@click.option("--events", default=50_000, show_default=True, envvar="ARCHIVER_DEMO_EVENTS", show_envvar=True)
def demo_command(folder: Path, events: int) -> None:
    """Generate deliveries, archive them, verify the archive, ask three questions."""
    from archiver.query.catalog import query_path

    _clear(folder)
    started = time.monotonic()
    spool, archive = folder / "spool", folder / "archive"
    _say(f"1  {events:,} deliveries arrive in a spool: valid ones, invalid ones, repeated ones")
    _archiver("generate", "--events", str(events), "--out", str(spool))
    _say("2  One run, as cron would start it: check, archive once, keep what is rejected")
    _archiver("run", "--spool", str(spool), "--archive", str(archive), fine=(0, 3))
    _say("3  Run it again: nothing is archived twice")
    _archiver("run", "--spool", str(spool), "--archive", str(archive))
    _say("4  Prove it: every commit, every object, every count")
    _archiver("verify", "--archive", str(archive))
    for number, (question, name) in enumerate(_QUESTIONS, start=5):
        _say(f"{number}  {question}")
        _archiver("sql", "--file", str(query_path(name)), "--archive", str(archive))
    _say(f"Done in {time.monotonic() - started:.0f} s. Everything lies in {folder}/:")
    click.echo(f"""\
  {archive}/events/        Parquet by workspace and day; any engine reads it
  {archive}/_quarantine/   what was rejected, byte for byte, with the reason
  {archive}/_ledger/       the chain of commits that says what counts

Try next:
  archiver status --archive {archive} --spool {spool}
  archiver quarantine list --archive {archive}
  archiver sql "{_AN_OWN_QUESTION}" --archive {archive}
  archiver export --archive {archive} --since 2026-03-26 | head -n 3
  flip a byte in any file below {archive}/ and run: archiver verify --archive {archive}
The command lies in {Path(sys.executable).parent}/.""")


def _clear(folder: Path) -> None:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / _MARKER).exists():
            raise ConfigError(f"{folder}: not empty and no earlier demo", hint="choose another --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARKER).write_text("made by `archiver demo`; it is replaced by the next one\n")


def _say(text: str) -> None:
    click.echo("\n" + click.style(text, bold=sys.stdout.isatty() and "NO_COLOR" not in os.environ))


def _archiver(*words: str, fine: tuple[int, ...] = (0,)) -> None:
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    click.echo(f"$ archiver {shown}")
    sys.stdout.flush()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    code = subprocess.run([sys.executable, "-m", "archiver", *words], check=False, env=clean).returncode  # noqa: S603 - our own command
    if code not in fine:
        raise ArchiverError(f"archiver {words[0]} ended with {code}")
