"""A URL that is asked after each run: a dead man's switch, which tells somebody when no run ends well.

Such a URL is a secret: whoever has it can keep the switch quiet. So it comes from a
variable or a file, never from a flag, and nothing that is said here shows more of it than
the host. It must be https, or http to this machine itself.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Timeout, Url, parse_url

from archiver import __version__
from archiver.errors import ConfigError

URL_VARIABLE: Final = "ARCHIVER_PING_URL"
FAILURE_URL_VARIABLE: Final = "ARCHIVER_PING_FAILURE_URL"
GOOD_EXIT_CODES: Final = (0, 3)
RETRIES: Final = 2
TIMEOUT_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 1.0

_INTERRUPTED: Final = 130
_LONGEST_URL: Final = 4096
_TALKATIVE: Final = ("urllib3.connection", "urllib3.connectionpool", "urllib3.response", "urllib3.util.retry")
_AGAIN: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class _Said:
    """A URL, and where it was said; shows itself to nobody."""

    where: str
    url: str

    def __repr__(self) -> str:
        return f"<the URL of {self.where}>"


def ping(
    exit_code: int,
    environment: Mapping[str, str],
    file: str | None = None,
    failure_file: str | None = None,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    pause_seconds: float = PAUSE_SECONDS,
) -> str | None:
    """Ask the URL that belongs to how a run ended, if there is one.

    After 0 and 3 that is the one of ARCHIVER_PING_URL or `file`; after an interruption
    none; else the one of ARCHIVER_PING_FAILURE_URL or `failure_file`, if there is one. The
    variable comes before the file. Tried three times, each for `timeout_seconds` at most;
    any answer 2xx will do, and a redirection is not followed.

    Returns:
        What went wrong, in words that show the URL's host at most; None: nothing.
    """
    if exit_code == _INTERRUPTED:
        return None
    variable, path = (
        (URL_VARIABLE, file) if exit_code in GOOD_EXIT_CODES else (FAILURE_URL_VARIABLE, failure_file)
    )
    try:
        said = _said(environment, variable, path)
        if said is None:
            return None
        url = _checked(said)
    except ConfigError as error:
        return error.message
    problem = ""
    for attempt in range(RETRIES + 1):
        if attempt:
            time.sleep(pause_seconds * attempt)
        problem, is_final = _within(timeout_seconds, url)
        if not problem:
            return None
        if is_final:
            break
    return f"ping {_shown(url)}: {problem}"


def check_pings(
    environment: Mapping[str, str], file: str | None, failure_file: str | None
) -> Iterator[tuple[str, str | None]]:
    """Yield where a URL is said, and what is wrong with it (None: nothing). Asks nobody."""
    for variable, path in ((URL_VARIABLE, file), (FAILURE_URL_VARIABLE, failure_file)):
        where = variable if environment.get(variable, "").strip() else path
        if where is None:
            continue
        try:
            said = _said(environment, variable, path)
            if said is not None:
                _checked(said)
        except ConfigError as error:
            yield where, error.message
        else:
            yield where, None


def _said(environment: Mapping[str, str], variable: str, file: str | None) -> _Said | None:
    told = environment.get(variable, "").strip()
    if told:
        return _Said(f"the variable {variable}", told)
    if file is None:
        return None
    try:
        with Path(file).open(encoding="utf-8") as opened:
            told = opened.read(_LONGEST_URL + 1).strip()
    except OSError as error:
        raise ConfigError(f"{file}: the URL to ping cannot be read: {error.strerror}") from None
    except ValueError:  # no UTF-8, or a path with NUL in it
        raise ConfigError(f"{file}: holds no URL") from None
    if not told:
        raise ConfigError(f"{file}: holds no URL")
    return _Said(file, told)


def _checked(said: _Said) -> Url:
    """Return the URL if it may be asked; no message shows it."""
    wrong = f"{said.where}: holds no URL that may be asked"
    if len(said.url) > _LONGEST_URL or not said.url.isascii() or any(char <= " " for char in said.url):
        raise ConfigError(f"{wrong}: write one line, https://…")
    try:
        url = parse_url(said.url)
    except (LocationParseError, ValueError):
        raise ConfigError(f"{wrong}: write https://…") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{wrong}: write https://…")
    if url.auth is not None:
        raise ConfigError(f"{wrong}: one with a password in it is not taken")
    if url.scheme == "http" and not _is_this_machine(url.host):
        raise ConfigError(f"{wrong}: http shows it to everybody on the way; write https://…")
    return url


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _shown(url: Url) -> str:
    return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")


def _within(seconds: float, url: Url) -> tuple[str, bool]:
    """Ask once, and wait for so long in all: an answer may come byte by byte, for ever."""
    outcome: list[tuple[str, bool]] = []

    def ask() -> None:
        with _quiet():
            outcome.append(_ask(url, seconds))

    thread = threading.Thread(target=ask, name="ping", daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else (f"no answer within {seconds:g} s", False)


def _ask(url: Url, seconds: float) -> tuple[str, bool]:
    """Return what went wrong, empty if nothing did, and whether it would go wrong again."""
    headers = {"User-Agent": f"archiver/{__version__}", "Connection": "close"}
    kind = urllib3.HTTPSConnectionPool if url.scheme == "https" else urllib3.HTTPConnectionPool
    pool = kind(url.host or "", url.port, timeout=Timeout(total=seconds), maxsize=1)
    try:
        answer = pool.urlopen(
            "GET", url.request_uri, headers=headers, retries=False, redirect=False, preload_content=False
        )
        status = answer.status
        answer.close()
    except (HTTPError, OSError, ValueError) as error:
        return f"no answer ({type(error).__name__})", False  # its text may show the URL
    finally:
        pool.close()
    if 200 <= status < 300:
        return "", True
    return f"answered {status}", status < 500 and status not in _AGAIN


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what urllib3 logs in this thread, which names URLs, from whoever listens."""
    here = threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(is_of_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_of_others)
