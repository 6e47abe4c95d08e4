"""What all commands share: where the archive is, how to talk, how to fail."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.config import FILE_NAME, Settings, check_settings, read_settings, with_store
from archiver.errors import ArchiverError, ConfigError
from archiver.progress import Progress, Silent

if TYPE_CHECKING:
    from archiver.archive import Archive, AsOf
    from archiver.store.base import Store

EXIT_CODES = """\
\b
Exit codes: 0 done · 1 failed · 2 usage or configuration · 3 done, but events are in
quarantine · 10 no archive there · 11 too much contention · 12 commit state unknown ·
20 stored bytes differ from the ledger · 130 interrupted
"""


@dataclass(slots=True)
class Context:
    """What a command was told, before it does anything.

    Attributes:
        settings: The file's, with flags and variables laid over.
        json: One JSON document on stdout instead of text.
        as_of: Which snapshot a reader asks for; None is the newest.
    """

    settings: Settings
    json: bool = False
    quiet: bool = False
    as_of: AsOf | None = None
    _progress: Progress | None = field(default=None)

    def open_store(self) -> Store:
        """Return the store that holds the archive."""
        from archiver.store.open import open_store

        if self.settings.archive is None:
            raise ConfigError(
                "no archive was named",
                hint=f"give --archive, set ARCHIVER_ARCHIVE, or run where an {FILE_NAME} is",
            )
        return open_store(self.settings.archive, self.settings.store)

    def open_archive(self) -> Archive:
        """Return the archive, as it was then if --as-of was given.

        Raises:
            ArchiveNotFoundError: None is there.
            ConfigError: It cannot be read as of then any more, or was not there yet.
        """
        from archiver.archive import open_archive

        archive = open_archive(self.open_store(), as_of=self.as_of)
        return replace(archive, publishes_delta=self.settings.publish_delta)

    @property
    def progress(self) -> Progress:
        """Bars on a terminal, nothing elsewhere."""
        if self._progress is None:
            if self.quiet or self.json or not sys.stderr.isatty():
                self._progress = Silent()
            else:
                from archiver.cli.bars import Bars

                self._progress = Bars()
        return self._progress

    def out(self, text: str, document: dict[str, Any]) -> None:
        """Print the result: `document` with --json, else `text`."""
        click.echo(json_text(document) if self.json else text)


def destinations_beginning(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the configured destinations that a shell may complete a word to; none if there is an error."""
    try:
        found = read_found_settings(context.params.get("config")).destinations
    except ArchiverError:
        return []
    return [name for name in found if name.startswith(incomplete)]


def option_with_variable(*names: str, prefix: str = "", **parts: Any) -> Callable[[Any], Any]:
    """As `click.option`, with its `ARCHIVER_*` variable: of the first name, behind `prefix`."""
    variable = f"ARCHIVER_{prefix}" + names[0].lstrip("-").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **parts)


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where its settings are and how it talks, and a `Context`."""

    @functools.wraps(function)
    def command(
        *args: Any,
        config: str | None,
        as_json: bool,
        quiet: bool,
        log_format: str,
        verbose: bool,
        **rest: Any,
    ) -> Any:
        set_up_logging(log_format, verbose=verbose)
        return function(Context(read_found_settings(config), json=as_json, quiet=quiet), *args, **rest)

    for option in reversed(
        [
            option_with_variable(
                "--config",
                "-c",
                metavar="FILE",
                help=f"Configuration; default: ./{FILE_NAME} if it is there.",
            ),
            option_with_variable("--json", "as_json", is_flag=True, help="Print one JSON document."),
            option_with_variable("--quiet", "-q", is_flag=True, help="No progress."),
            option_with_variable("--verbose", "-v", is_flag=True, help="Say more on stderr."),
            option_with_variable(
                "--log-format",
                type=click.Choice(["text", "json"]),
                default="text",
                show_default=True,
                help="Of what goes to stderr.",
            ),
        ]
    ):
        command = option(command)
    return command


def archive_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `settings_options`, and also the options that say where the archive is."""

    @functools.wraps(function)
    def command(
        context: Context,
        *args: Any,
        archive: str | None,
        endpoint_url: str | None,
        region: str | None,
        addressing_style: str | None,
        **rest: Any,
    ) -> Any:
        if archive is not None:
            context.settings = replace(context.settings, archive=archive)
        context.settings = with_store(
            context.settings, endpoint_url=endpoint_url, region=region, addressing_style=addressing_style
        )
        return function(context, *args, **rest)

    whole = settings_options(command)
    for option in reversed(
        [
            option_with_variable(
                "--archive", "-a", metavar="LOCATION", help="A folder, or s3://bucket/prefix."
            ),
            option_with_variable(
                "--endpoint-url", metavar="URL", help="An S3-compatible server other than AWS."
            ),
            option_with_variable("--region", metavar="NAME", help="The bucket's region."),
            option_with_variable(
                "--addressing-style",
                type=click.Choice(["auto", "path", "virtual"]),
                help="Of the bucket's URL.",
            ),
        ]
    ):
        whole = option(whole)
    return whole


def as_of_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a reading command --as-of; it ends in the context, whose archive is then that snapshot."""

    @functools.wraps(function)
    def command(context: Context, *args: Any, as_of: str | None, **rest: Any) -> Any:
        if as_of is not None:
            from archiver import clock
            from archiver.archive import AsOf
            from archiver.times import parse_when

            told = as_of.strip()
            if told.isascii() and told.isdigit():
                context.as_of = AsOf(sequence=int(told[:18]))
            else:
                context.as_of = AsOf(time_us=parse_when(told, clock.now_us()))
        return function(context, *args, **rest)

    add = option_with_variable(
        "--as-of",
        metavar="COMMIT|WHEN",
        help="Read the archive as it was after a commit (42) or at a time (2026-03-26, 7d).",
    )
    return add(command)  # type: ignore[no-any-return]


def write_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that writes objects the options that say how; they end in the context's settings."""

    @functools.wraps(function)
    def command(
        context: Context,
        *args: Any,
        storage_class: str | None,
        server_side_encryption: str | None,
        kms_key_id: str | None,
        tag: tuple[str, ...],
        object_lock: str | None,
        object_lock_keep: str | None,
        **rest: Any,
    ) -> Any:
        tags = None
        if tag:
            if any("=" not in one for one in tag):
                raise ConfigError("a tag is written KEY=VALUE")
            tags = dict(one.split("=", 1) for one in tag)
        context.settings = with_store(
            context.settings,
            storage_class=storage_class,
            server_side_encryption=server_side_encryption,
            kms_key_id=kms_key_id,
            tags=tags,
            object_lock=object_lock,
            object_lock_keep=object_lock_keep,
        )
        return function(context, *args, **rest)

    for option in (
        option_with_variable(
            "--object-lock-keep", metavar="SPAN", help="S3: lock for so long: 400d, 13mo, 7y."
        ),
        option_with_variable(
            "--object-lock",
            type=click.Choice(["off", "governance", "compliance"]),
            help="S3: lock each object once it is committed.",
        ),
        option_with_variable(
            "--tag", multiple=True, metavar="KEY=VALUE", help="S3: put on every object; several times."
        ),
        option_with_variable("--kms-key-id", metavar="ID", help="S3: the key for aws:kms."),
        option_with_variable(
            "--server-side-encryption", metavar="KIND", help="S3: AES256, aws:kms or aws:kms:dsse."
        ),
        option_with_variable("--storage-class", metavar="CLASS", help="S3: such as STANDARD_IA."),
    ):
        command = option(command)
    return command


def read_found_settings(config: str | None) -> Settings:
    """Return what a file says: the named one, or else the one in this folder if it is there."""
    here = Path(FILE_NAME)
    if config is not None:
        settings = read_settings(Path(config))
    else:
        try:
            is_there = here.is_file()
        except OSError as error:
            raise ConfigError(
                f"{FILE_NAME} cannot be looked for in this folder: {error.strerror}",
                hint="go to a folder that this user may read, or name the file: --config FILE",
            ) from error
        settings = read_settings(here) if is_there else Settings()
    told = os.environ.get("ARCHIVER_PUBLISH_DELTA")
    if not told:
        return settings
    try:
        return replace(settings, publish_delta=click.BOOL.convert(told, None, None))
    except click.BadParameter as error:
        raise ConfigError(f"ARCHIVER_PUBLISH_DELTA: {error.message}") from error


def checked(settings: Settings) -> Settings:
    """Check what flags made of the settings."""
    return check_settings(settings, "the command line")


def use_a_frugal_memory_pool() -> None:
    """Let Arrow allocate by jemalloc: what needs much memory then peaks a quarter lower than by default."""
    import pyarrow as pa

    if "jemalloc" in pa.supported_memory_backends():  # not in every build of Arrow
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def write_new_file(path: Path, text: str) -> bool:
    """Write a text file unless one is there; say whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return True


class _JsonLines(logging.Formatter):
    """One JSON object a record; what was passed as `extra` becomes members."""

    _USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        tree = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in self._USUAL},
        }
        if record.exc_info:
            tree["exception"] = self.formatException(record.exc_info)
        return json.dumps(tree, ensure_ascii=False, default=str)


def set_up_logging(form: str, *, verbose: bool) -> None:
    """Send our own log records to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else logging.Formatter("archiver: %(message)s"))
    logger = logging.getLogger("archiver")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if verbose or form == "json" else logging.WARNING)


def fail(error: ArchiverError, *, as_json: bool) -> int:
    """Print an error as its reader wants it and return the exit code."""
    if as_json:
        document = {
            "message_type": "exit_error",
            "kind": error.kind,
            "message": error.message,
            "hint": error.hint,
            "code": error.exit_code,
        }
        click.echo(json_text(document))
    logger = logging.getLogger("archiver")
    if any(isinstance(handler.formatter, _JsonLines) for handler in logger.handlers):
        logger.error(error.message, extra={"kind": error.kind, "hint": error.hint, "code": error.exit_code})
        return error.exit_code
    plain = "NO_COLOR" in os.environ or not sys.stderr.isatty()
    label = "error: " if plain else click.style("error: ", fg="red")
    click.echo(label + printable(error.message), err=True)
    if error.hint:
        click.echo(f"hint: {printable(error.hint)}", err=True)
    return error.exit_code


def json_text(document: dict[str, Any]) -> str:
    """Write a document as one line of JSON that a terminal can show: what is not printable is escaped."""
    text = json.dumps(document, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def printable(text: str) -> str:
    """Show control characters instead of sending them to the terminal; text of events is data."""
    return "".join(
        char
        if char == "\n" or (char.isprintable() and not 0xD800 <= ord(char) <= 0xDFFF)
        else f"\\x{ord(char):02x}"
        for char in text
    )
