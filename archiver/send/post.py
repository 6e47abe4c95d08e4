"""One attempt at one delivery: a signed POST, and what its answer means."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from archiver import __version__, signature
from archiver.http import Client, NoAnswer
from archiver.signature import Secrets

_RETRIED_ALL_THE_SAME: Final = frozenset({408, 425, 429})
_URL_HINT: Final = "write it as the receiver prints it: http://127.0.0.1:8080/webhook"
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
        self._client = Client(
            url,
            connections=connections,
            timeout_seconds=timeout_seconds,
            ca_file=ca_file,
            headers={"Content-Type": "application/json", "User-Agent": f"archiver-send/{__version__}"},
            hint=_URL_HINT,
        )
        self.shown = self._client.shown

    def post(self, body: bytes, secrets: Secrets) -> Outcome:
        """Deliver `body`, once, signed.

        Raises:
            ConfigError: The receiver's certificate is not trusted, or it speaks no TLS. Nothing was sent.
        """
        # No redirection: what is signed for one receiver is for no other.
        answer = self._client.post("", body, {signature.HEADER: secrets.sign(body)})
        if isinstance(answer, NoAnswer):
            return Outcome(answer.silence, False, True, None, answer.told, answer.seconds)
        status = answer.status
        return Outcome(
            answer=str(status),
            acknowledged=200 <= status < 300,
            may_be_retried=status >= 500 or status in _RETRIED_ALL_THE_SAME,
            retry_after=answer.retry_after,
            told="" if status < 300 else answer.told,
            seconds=answer.seconds,
        )

    def close(self) -> None:
        """Close the connections that are idle."""
        self._client.close()
