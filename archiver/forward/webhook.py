"""Any URL that takes JSON over HTTP; one that takes what the vendor delivers sees no difference.

    batch = "single" (default)   one event a request          application/json
    batch = "array"              [<payload>,<payload>]        application/json
    batch = "lines"              one payload a line (NDJSON)  application/x-ndjson

A single event whose form is `as_delivered`, and of which nothing is dropped or hashed, is sent as the
bytes that were delivered. With a `secret` each request has the vendor's header, `X-Immutable-Signature`,
over the body that is sent: one stream at the vendor then feeds any number of its receivers, `archiver
receive` among them. Without: `Authorization: Bearer` or `Basic`, or nothing.

2xx: all of the request was taken. 400, 413 and 422 refuse what is in it; of several events the answer
cannot say which. As at the vendor, nothing but the event's id tells a repeat.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from archiver import signature
from archiver.errors import ConfigError
from archiver.forward.base import Limits, Outgoing, UnsendableError, Verdict, all_again, trouble_of
from archiver.forward.posting import authorization, post
from archiver.forward.settings import Batching, Destination
from archiver.http import Client
from archiver.secret import Secret
from archiver.signature import LEAST_SECRET_BYTES, Secrets

MOST_EVENTS: Final = 1000
# What common servers take of a body unless they are told otherwise; more is asked for by `batch_bytes`.
MOST_BYTES: Final = 1 << 20
MOST_EVENT_BYTES: Final = 64 << 20

_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


class WebhookIntake:
    """Any URL.

    Args:
        secret: What signs.

    Raises:
        ConfigError: The secret is too short, or what it signs would be compressed.
    """

    oldest_seconds: Final[float | None] = None

    def __init__(
        self, destination: Destination, token: Secret | None, password: Secret | None, secret: Secret | None
    ) -> None:
        self._batch: Batching = destination.options.get("batch", "single")
        self._as_delivered = (
            self._batch == "single"
            and destination.form == "as_delivered"
            and not (destination.drop or destination.hash)
        )
        self._gzip = bool(destination.gzip)
        self._signer = _signer(destination, secret)
        kind = "application/x-ndjson" if self._batch == "lines" else "application/json"
        self._headers = {"Content-Type": kind, **authorization(destination, token, password)}
        most_bytes = destination.batch_bytes or MOST_BYTES
        if self._batch == "single":
            self.limits = Limits(1, MOST_EVENT_BYTES, MOST_EVENT_BYTES)
        else:
            # One byte of an array is in no item.
            self.limits = Limits(
                destination.batch_events or MOST_EVENTS, most_bytes - 1, MOST_EVENT_BYTES - 1
            )

    def item(self, event: Outgoing, payload: bytes) -> bytes:
        """Return the payload, or the body as delivered, with what separates it from the next.

        Raises:
            UnsendableError: It is above 64 MiB.
        """
        item = event.body if self._as_delivered else payload
        if len(item) + (self._batch != "single") > self.limits.most_event_bytes:
            raise UnsendableError(f"{len(item)} bytes; at most {MOST_EVENT_BYTES} are sent in a request")
        if self._batch == "lines":
            # White space between members; within a text a line break is escaped.
            return item.translate(_LINE_BREAKS) + b"\n"
        return item + b"," if self._batch == "array" else item

    def deliver(self, client: Client, items: Sequence[bytes], stop: threading.Event) -> Verdict:  # noqa: ARG002 - an Intake's
        """Post the items as one request; one alone if `batch` is single.

        Raises:
            NotTrustedError: Nothing was sent.
        """
        body = b"".join(items)
        if self._batch == "array":
            body = b"[" + body[:-1] + b"]"
        headers = self._headers
        if self._signer is not None:
            headers = {**headers, signature.HEADER: self._signer.sign(body)}
        trouble = trouble_of(post(client, body, headers, gzip=self._gzip))
        return Verdict() if trouble is None else all_again(len(items), trouble)


def _signer(destination: Destination, secret: Secret | None) -> Secrets | None:
    if secret is None:
        return None
    here = f"destination {destination.name}"
    value = secret.reveal().encode()
    if len(value) < LEAST_SECRET_BYTES:
        raise ConfigError(
            f"{here}: the secret has {len(value)} bytes, at least {LEAST_SECRET_BYTES} are needed"
        )
    if destination.gzip:
        raise ConfigError(f"{here}: a signed delivery is sent as it is: leave gzip out")
    return Secrets([value])
