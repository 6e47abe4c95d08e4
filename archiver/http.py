"""HTTP outwards: one place that is posted to, over connections that stay open; and what came back.

Redirections are not followed, nothing is tried twice, answers are bounded, and no message
shows a header or a query. What an answer means is the caller's affair.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, Url, parse_url

from archiver.errors import ConfigError

MOST_ANSWER_BYTES: Final = 64 * 1024
MOST_TOLD_CHARACTERS: Final = 120

_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "UNSUPPORTED_PROTOCOL"}
)

_TIMEOUTS_AN_ANSWER: Final = 4
_PIECE_BYTES: Final = 64 << 10

Silence = Literal["refused", "reset", "timeout", "tls", "unreachable"]


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: Of HTTP.
        headers: By lower-case name; of several of one name the first.
        content: The body's beginning, as much of it as was wanted.
        is_whole: Whether that is all of it.
        seconds: From the first byte sent to the last one read.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    is_whole: bool
    seconds: float

    @property
    def retry_after(self) -> float | None:
        """The seconds that the answer asks to wait for, or None."""
        return _seconds_of(self.headers.get("retry-after"))

    @property
    def told(self) -> str:
        """What the body begins with, as one line that a terminal can show."""
        return first_line(self.content)


class NoAnswer(NamedTuple):
    """None came, or not all of it; the receiver may have taken what was sent all the same.

    Attributes:
        silence: What happened instead.
        told: What the system said.
        seconds: From the first byte sent to the end.
    """

    silence: Silence
    told: str
    seconds: float


class NotTrustedError(ConfigError):
    """The certificate is not trusted, or no TLS is spoken there. Nothing was sent."""


class Client:
    """One place: scheme, host and port. May be used from several threads.

    Args:
        url: `http://` or `https://`, without a password. Its path is put before that of each request.
        connections: How many at once, at most.
        timeout_seconds: How long a connection may be silent before the request has failed.
        ca_file: Certificates to trust instead of the system's.
        headers: Of each request.
        hint: How such a URL is written, for errors.

    Attributes:
        shown: The URL without its query, for messages.

    Raises:
        ConfigError: The URL or the certificates will not do.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 1,
        timeout_seconds: float = 30.0,
        ca_file: Path | str | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        parsed = parsed_url(url, hint=hint)
        self._path = parsed.path or ""
        self._query = f"?{parsed.query}" if parsed.query else ""
        self.shown = f"{parsed.scheme}://{parsed.netloc}{parsed.path or '/'}"
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}
        self._longest_seconds = _TIMEOUTS_AN_ANSWER * timeout_seconds
        timeout = Timeout(connect=min(timeout_seconds, 10.0), read=timeout_seconds)
        host, port = parsed.host or "", parsed.port
        self._pool: urllib3.HTTPConnectionPool
        if parsed.scheme == "https":
            trusted = _trust(ca_file)
            self._pool = urllib3.HTTPSConnectionPool(
                host, port, maxsize=connections, block=True, timeout=timeout, ssl_context=trusted
            )
        elif ca_file is not None:
            raise ConfigError(f"{self.shown}: certificates to trust mean nothing without https")
        else:
            self._pool = urllib3.HTTPConnectionPool(
                host, port, maxsize=connections, block=True, timeout=timeout
            )

    def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        most_answer_bytes: int = MOST_ANSWER_BYTES,
    ) -> Answer | NoAnswer:
        """Send `body` once; `path` is put behind that of the URL, empty for none.

        Raises:
            NotTrustedError: Nothing was sent.
        """
        began = time.perf_counter()
        target = (self._path.rstrip("/") + path if path else self._path or "/") + self._query
        try:
            answer = self._pool.urlopen(
                "POST",
                target,
                body=body if len(body) <= _PIECE_BYTES else _pieces(body),
                headers={**self._headers, **headers, "Content-Length": str(len(body))},
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            is_interim = answer.status < 200
            if is_interim:
                answer.close()  # the final one would be taken for that of the next request
            content, is_whole = self._read(answer, most_answer_bytes, began)
            if not is_whole:
                answer.close()  # what else it sends is not of interest
            answer.release_conn()
        except (HTTPError, OSError) as error:
            return self._failed(error, time.perf_counter() - began)
        if is_interim:
            told_instead = f"an interim answer, {answer.status}, and not the final one"
            return NoAnswer("reset", told_instead, time.perf_counter() - began)
        told: dict[str, str] = {}
        for name, value in answer.headers.items():
            told.setdefault(name.lower(), value)
        return Answer(answer.status, told, content, is_whole, time.perf_counter() - began)

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()

    def _read(self, answer: BaseHTTPResponse, most: int, began: float) -> tuple[bytes, bool]:
        """Read an answer's body, no longer than it may take: it may come byte by byte, for ever.

        One that ends early has said its status all the same.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := answer.read1(most - size + 1):
                pieces.append(piece)
                size += len(piece)
                if size > most or time.perf_counter() - began > self._longest_seconds:
                    return b"".join(pieces)[:most], False
        except (HTTPError, OSError):
            return b"".join(pieces)[:most], False
        return b"".join(pieces), True

    def _failed(self, error: Exception, seconds: float) -> NoAnswer:
        cause: BaseException = error
        while isinstance(cause.__cause__ or cause.__context__, OSError):
            cause = cause.__cause__ or cause.__context__ or cause
        if isinstance(error, SSLError) or isinstance(cause, ssl.SSLError):
            self._hold_against_tls(cause)
        told = first_line(str(getattr(cause, "strerror", None) or cause).encode())
        return NoAnswer(_word(error, cause), told, seconds)

    def _hold_against_tls(self, cause: BaseException) -> None:
        """Raise what no second attempt mends."""
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise NotTrustedError(
                f"{self.shown}: its certificate is not trusted: {cause.verify_message}",
                hint="is the name in the URL one of its names? for a certificate of your own"
                " give the file of its authority (--ca-file, ca_file)",
            ) from None
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
            raise NotTrustedError(
                f"{self.shown}: no TLS is spoken there", hint="is it http:// and not https://?"
            ) from None


def parsed_url(url: str, *, hint: str = "") -> Url:
    """Return the parts of a URL that may be posted to.

    Raises:
        ConfigError: It is none, or holds a password.
    """
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ConfigError(f"{url!r:.200}: no URL", hint=hint) from None
    if parsed.auth is not None:
        raise ConfigError("a URL with a password in it is not taken", hint=hint)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url!r:.200}: a URL begins with http:// or https://, and names a host", hint=hint)
    return parsed


def first_line(content: bytes) -> str:
    """The beginning of somebody else's text, as one line that a terminal can show."""
    line = content[: 4 * MOST_TOLD_CHARACTERS].decode(errors="replace").strip().partition("\n")[0]
    return "".join(char for char in line if char.isprintable())[:MOST_TOLD_CHARACTERS]


def _pieces(body: bytes) -> Iterator[bytes]:
    """A socket's timeout is for all that is given to it at once: a large body may take longer."""
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


def _word(error: Exception, cause: BaseException) -> Silence:
    if isinstance(cause, ConnectionRefusedError):
        return "refused"
    if isinstance(error, NewConnectionError):  # which is a ConnectTimeoutError as well
        return "unreachable"
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)) or isinstance(cause, TimeoutError):
        return "timeout"
    if isinstance(error, SSLError) or isinstance(cause, ssl.SSLError):
        return "tls"
    return "reset"


def _trust(ca_file: Path | str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except FileNotFoundError:
        raise ConfigError(f"{ca_file}: not found") from None
    except OSError as error:  # `ssl.SSLError` is one
        raise ConfigError(f"{ca_file}: no certificates in it: {error.strerror or error}") from None
    except ValueError as error:  # NUL in it
        raise ConfigError(f"{str(ca_file)!r:.80}: no path of a file: {error}") from None


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
