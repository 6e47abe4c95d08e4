"""From a configured destination to what speaks to it. Its secrets are read here, once, and nowhere else."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, assert_never

from archiver import __version__
from archiver.errors import ConfigError
from archiver.forward import datadog
from archiver.forward.base import Intake
from archiver.forward.datadog import DatadogIntake
from archiver.forward.elastic import ElasticIntake
from archiver.forward.logstash import LogstashIntake
from archiver.forward.settings import Destination
from archiver.forward.splunk import SplunkIntake
from archiver.forward.webhook import WebhookIntake
from archiver.http import Answer, Client, NoAnswer
from archiver.secret import Secret, SecretPlace

USER_AGENT: Final = f"archiver/{__version__}"
_LEAST_HIDDEN_BYTES: Final = 6  # a shorter one would be found in many an answer
_URL_HINT: Final = 'url = "https://…", with the port and, if the receiver has one, the path'


def intake_of(destination: Destination, environment: Mapping[str, str] | None = None) -> Intake:
    """Return what speaks the API of the destination's kind.

    Args:
        environment: Where its secrets' variables are; None: this process's.

    Raises:
        ConfigError: A secret is missing, or settings do not go together.
    """
    token = _read(destination.token, environment)
    password = _read(destination.password, environment)
    match destination.kind:
        case "splunk":
            return SplunkIntake(destination, _needed(destination, token))
        case "datadog":
            return DatadogIntake(destination, _needed(destination, token))
        case "elastic":
            return ElasticIntake(destination, token, password)
        case "logstash":
            return LogstashIntake(destination, token, password)
        case "http":
            return WebhookIntake(destination, token, password, _read(destination.secret, environment))
    assert_never(destination.kind)


def client_of(destination: Destination, environment: Mapping[str, str] | None = None) -> Client:
    """Return the one connection to a destination; nothing is opened before something is posted.

    Some receivers repeat in an answer what they were sent: where a secret stands in one, it is not
    what a log, a dead letter or an error shows.

    Raises:
        ConfigError: The URL or the certificates will not do.
    """
    return _Discreet(
        url_of(destination),
        sorted(_hidden(destination, environment), key=len, reverse=True),
        timeout_seconds=destination.timeout_seconds,
        ca_file=destination.ca_file,
        headers={"User-Agent": USER_AGENT},
        hint=_URL_HINT,
    )


def url_of(destination: Destination) -> str:
    """Return where a destination listens; of Datadog that may follow from its site.

    Raises:
        ConfigError: There is no such site.
    """
    return datadog.url_of(destination) if destination.kind == "datadog" else destination.url


def _needed(destination: Destination, token: Secret | None) -> Secret:
    if token is None:
        raise ConfigError(
            f"destination {destination.name} has no token",
            hint="name its variable (token_env) or file (token_file)",
        )
    return token


def _read(place: SecretPlace | None, environment: Mapping[str, str] | None) -> Secret | None:
    return None if place is None else place.read(environment)


class _Discreet(Client):
    def __init__(self, url: str, hidden: Sequence[bytes], **settings: Any) -> None:
        super().__init__(url, **settings)
        self._hidden = hidden

    def post(self, path: str, body: bytes, headers: Mapping[str, str], **settings: Any) -> Answer | NoAnswer:
        answer = super().post(path, body, headers, **settings)
        if isinstance(answer, Answer):
            content = answer.content
            for secret in self._hidden:
                content = content.replace(secret, b"(a secret)")
            answer = answer._replace(content=content)
        return answer


def _hidden(destination: Destination, environment: Mapping[str, str] | None) -> Iterator[bytes]:
    """Yield each secret, as it is and as headers write it."""
    for place in (destination.token, destination.password, destination.secret, destination.hash_key):
        if place is None:
            continue
        # What cannot be read is told by whoever needs it.
        with contextlib.suppress(ConfigError):
            secret = place.read(environment).reveal().encode()
            if len(secret) >= _LEAST_HIDDEN_BYTES:
                yield secret
                yield base64.b64encode(secret)
                yield base64.b64encode(f"{destination.user}:".encode() + secret)
