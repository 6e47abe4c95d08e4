"""One attempt at one delivery: a signed POST, and what its answer means."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, Url, parse_url

from archiver import __version__, signature
from archiver.errors import ConfigError
from archiver.signature import Secrets

_MOST_ANSWER_BYTES: Final = 64 * 1024
_MOST_TOLD_CHARACTERS: Final = 120
_RETRIED_ALL_THE_SAME: Final = frozenset({408, 425, 429})
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "UNSUPPORTED_PROTOCOL"}
)
_HINTS: Final = {
    "401": "is it the secret that the receiver has for this path?",
    "404": "is the path right? the receiver prints it when it starts",
    "405": "is the path right?",
    "413": "the body is larger than the receiver takes",
    "refused": "is the receiver running, and at this address?",
    "unreachable": "is the name right, and is there a way to it?",
    "timeout": "is the receiver overloaded, or something between that swallows what is sent?",
    "reset": "did the receiver stop? or does it speak https, and not http?",
}


class Outcome(NamedTuple):
    """How an attempt ended.

    Attributes:
        answer: The status, as text, or what happened instead: `refused`, `reset`, `timeout`,
            `tls`, `unreachable`.
        acknowledged: Whether the answer was 2xx: the receiver has it, durably.
        may_be_retried: Whether the same body may fare better later. Where no answer came, the
            receiver may have it all the same.
        retry_after: The seconds that the answer asked to wait for, or None.
        told: What the answer's body began with, or what the system said.
        seconds: From the first byte sent to the answer's last.
    """

    answer: str
    acknowledged: bool
    may_be_retried: bool
    retry_after: float | None
    told: str
    seconds: float

    @property
    def hint(self) -> str:
        if self.answer.startswith("3"):
            return "a signed delivery does not follow a redirection: name the place that it leads to"
        return _HINTS.get(self.answer, "")

    @property
    def described(self) -> str:
        """All of it that a person can use, on one line."""
        told = f" ({self.told})" if self.told else ""
        return f"{self.answer}{told}" + (f"; {self.hint}" if self.hint else "")


class Target:
    """Where deliveries go: one URL, with connections that stay open. May be used from several threads.

    Args:
        url: `http://` or `https://`, with a path.
        connections: How many at once, at most.
        timeout_seconds: How long a connection may be silent before the attempt has failed.
        ca_file: Certificates to trust instead of the system's.

    Raises:
        ConfigError: The URL or the certificates will not do.
    """

    def __init__(
        self, url: str, *, connections: int = 1, timeout_seconds: float = 30.0, ca_file: Path | None = None
    ) -> None:
        parsed = _parsed(url)
        self._path = parsed.request_uri
        host, port = parsed.host or "", parsed.port
        # `path` and `query` may hold what somebody takes for a secret: no message shows the query.
        self.shown = f"{parsed.scheme}://{parsed.netloc}{parsed.path or '/'}"
        timeout = Timeout(connect=min(timeout_seconds, 10.0), read=timeout_seconds)
        self._pool: urllib3.HTTPConnectionPool
        if parsed.scheme == "https":
            self._pool = urllib3.HTTPSConnectionPool(
                host, port, maxsize=connections, block=True, timeout=timeout, ssl_context=_trust(ca_file)
            )
        elif ca_file is not None:
            raise ConfigError(f"{self.shown}: --ca-file means nothing without https")
        else:
            self._pool = urllib3.HTTPConnectionPool(
                host, port, maxsize=connections, block=True, timeout=timeout
            )
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"archiver-send/{__version__}",
            "Accept-Encoding": "identity",
        }

    def post(self, body: bytes, secrets: Secrets) -> Outcome:
        """Deliver `body`, once, signed.

        Raises:
            ConfigError: The receiver's certificate is not trusted, or it speaks no TLS. Nothing was sent.
        """
        headers = self._headers | {signature.HEADER: secrets.sign(body)}
        began = time.perf_counter()
        try:
            # No redirection: what is signed for one receiver is for no other.
            answer = self._pool.urlopen(
                "POST",
                self._path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            content = answer.read(_MOST_ANSWER_BYTES)
            if len(content) == _MOST_ANSWER_BYTES:
                answer.close()  # what else it sends is not of interest
            answer.release_conn()
        except (HTTPError, OSError) as error:
            return self._failed(error, time.perf_counter() - began)
        seconds = time.perf_counter() - began
        status = answer.status
        return Outcome(
            answer=str(status),
            acknowledged=200 <= status < 300,
            may_be_retried=status >= 500 or status in _RETRIED_ALL_THE_SAME,
            retry_after=_seconds_of(answer.headers.get("Retry-After")),
            told="" if status < 300 else _first_line(content),
            seconds=seconds,
        )

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()

    def _failed(self, error: Exception, seconds: float) -> Outcome:
        cause: BaseException = error
        while isinstance(cause.__cause__ or cause.__context__, OSError):
            cause = cause.__cause__ or cause.__context__ or cause
        if isinstance(error, SSLError) or isinstance(cause, ssl.SSLError):
            self._hold_against_tls(cause)
        told = _first_line(str(getattr(cause, "strerror", None) or cause).encode())
        return Outcome(_word(error, cause), False, True, None, told, seconds)

    def _hold_against_tls(self, cause: BaseException) -> None:
        """Raise what no second attempt mends."""
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"{self.shown}: its certificate is not trusted: {cause.verify_message}",
                hint="is the name in the URL one of its names? for a certificate of your own give --ca-file",
            ) from None
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
            raise ConfigError(
                f"{self.shown}: no TLS is spoken there", hint="is it http:// and not https://?"
            ) from None


def _word(error: Exception, cause: BaseException) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "refused"
    if isinstance(error, NewConnectionError):  # which is a ConnectTimeoutError as well
        return "unreachable"
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)):
        return "timeout"
    if isinstance(error, SSLError) or isinstance(cause, ssl.SSLError):
        return "tls"
    return "reset"


def _parsed(url: str) -> Url:
    hint = "write it as the receiver prints it: http://127.0.0.1:8080/webhook"
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ConfigError(f"{url!r:.200}: no URL", hint=hint) from None
    if parsed.auth is not None:
        raise ConfigError("a URL with a password in it: a receiver takes none", hint=hint)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url!r:.200}: a URL begins with http:// or https://, and names a host", hint=hint)
    return parsed


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except FileNotFoundError:
        raise ConfigError(f"{ca_file}: not found") from None
    except OSError as error:  # `ssl.SSLError` is one
        raise ConfigError(f"{ca_file}: no certificates in it: {error.strerror or error}") from None


def _seconds_of(retry_after: str | None) -> float | None:
    """Read a Retry-After, which is a number of seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    told = retry_after.strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        when = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _first_line(content: bytes) -> str:
    """The beginning of somebody else's text, as one line that a terminal can show."""
    line = content[: 4 * _MOST_TOLD_CHARACTERS].decode(errors="replace").strip().partition("\n")[0]
    return "".join(char for char in line if char.isprintable())[:_MOST_TOLD_CHARACTERS]
