"""One stream's door: read the body within bounds, check the signature, answer when it is durable.

What the body *contains* is never looked at here: three refusals in a row stop the sender's
stream until somebody re-enables it by hand, so a body that is signed is stored, whatever it is.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archiver.receiver.metrics import StreamMetrics
from archiver.receiver.room import LargeBodies, Share
from archiver.receiver.writer import RefusedError, SpoolWriter
from archiver.segment import LARGEST_BODY_BYTES
from archiver.signature import HEADER, Secrets

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from archiver.receiver.guard import GuardedProtocol

SMALL_BODY_BYTES: Final = 64 << 10
RETRY_AFTER_SECONDS: Final = 5
_SIGNED_AT_ONCE_BYTES: Final = 256 << 10
_SIGNATURE: Final = HEADER.lower().encode()

_log = logging.getLogger("archiver.receiver")


class _TooLargeError(Exception):
    pass


class _DisconnectedError(Exception):
    pass


class Door:
    """ASGI application of one stream's path.

    Answers 204 when the delivery is durable, 401, 413, or 503 with Retry-After.
    """

    def __init__(
        self, stream: str, secrets: Secrets, writer: SpoolWriter, room: LargeBodies, metrics: StreamMetrics
    ) -> None:
        self.stream = stream
        self.secrets = secrets
        self._writer = writer
        self._room = room
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: GuardedProtocol | None = scope.get("archiver.connection")
        if connection is None:  # it is gone already
            return
        signature, length = _told(scope["headers"])
        if length is not None and length > LARGEST_BODY_BYTES:
            await self._refuse_early(connection, scope, send, 413, "too_large")
            return
        if signature is None and (length is None or length > SMALL_BODY_BYTES):
            # Not even an attempt to sign: why read it?
            await self._refuse_early(connection, scope, send, 401, "unauthorized")
            return
        share = Share(connection)
        try:
            body = await self._body(receive, share)
            share.waits_for_us = True
            if not await self._is_genuine(signature, body):
                await self._answer(send, 401, "unauthorized")
                return
            connection.delivers()
            await self._writer.store(body, self.stream)
            self._metrics.count("stored", len(body))
            await send(_STORED)
            await send(_NO_BODY)
        except _DisconnectedError:
            self._metrics.count("disconnected")
        except _TooLargeError:
            await self._refuse_early(connection, scope, send, 413, "too_large")
        except RefusedError as error:
            await self._refuse_early(connection, scope, send, 503, "unavailable", error.message)
        except asyncio.CancelledError:
            # The server ends, and waited long enough: the sender shall try again elsewhere.
            await self._answer(send, 503, "unavailable", "shutting down")
        except Exception as error:  # noqa: BLE001  (a mistake of ours must not count against the sender)
            _log.error("a delivery of %s failed: %s", self.stream, _where(error))
            await self._refuse_early(connection, scope, send, 503, "unavailable", "an error in the receiver")
        finally:
            self._room.give_back(share)

    async def _body(self, receive: Receive, share: Share) -> bytes | bytearray:
        """Read a body whole; if it is large it holds room until its share is given back."""
        buffer = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            piece: bytes = message.get("body", b"")
            if len(buffer) + len(piece) > LARGEST_BODY_BYTES:
                raise _TooLargeError
            is_last = not message.get("more_body", False)
            if is_last and not buffer:  # nearly all
                return piece
            more = len(buffer) + len(piece) - SMALL_BODY_BYTES - share.taken
            if more > 0:
                await self._room.take(share, more)
            buffer += piece
            if is_last:
                return buffer  # no copy: it may be large

    async def _is_genuine(self, signature: bytes | None, body: bytes | bytearray) -> bool:
        if len(body) <= _SIGNED_AT_ONCE_BYTES:
            return self.secrets.signs(signature, body)
        return await asyncio.to_thread(self.secrets.signs, signature, body)

    async def _refuse_early(
        self,
        connection: GuardedProtocol,
        scope: Scope,
        send: Send,
        status: int,
        outcome: str,
        text: str = "",
    ) -> None:
        """Answer while the body may still be under way."""
        connection.answers_early()
        # Who waits for `100 Continue` may now send the body, or not, and another request: nobody could tell.
        closes = any(name == b"expect" for name, _ in scope["headers"])
        await self._answer(send, status, outcome, text, closes=closes)

    async def _answer(
        self, send: Send, status: int, outcome: str, text: str = "", *, closes: bool = False
    ) -> None:
        self._metrics.count(outcome)
        content = (text or _TEXTS[status]).encode() + b"\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(content)).encode()),
        ]
        if closes:
            headers.append((b"connection", b"close"))
        if status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


_STORED: Final[dict[str, Any]] = {"type": "http.response.start", "status": 204, "headers": []}
_NO_BODY: Final[dict[str, Any]] = {"type": "http.response.body", "body": b""}
_TEXTS: Final = {
    401: "the signature is missing, malformed or wrong",
    413: f"the body is longer than {LARGEST_BODY_BYTES} bytes",
}


def _told(headers: list[tuple[bytes, bytes]]) -> tuple[bytes | None, int | None]:
    """Return the signature, if there is exactly one, and the length that the sender states, if it does."""
    signatures = []
    length = None
    for name, value in headers:
        if name == _SIGNATURE:
            signatures.append(value.strip(b" \t"))  # what may stand around any value (RFC 9110, 5.5)
        elif name == b"content-length" and value.isdigit():
            length = int(value[:20])
    return (signatures[0] if len(signatures) == 1 else None), length


def _where(error: Exception) -> str:
    """Return what failed and in which lines, without the error's text: that may quote a body."""
    lines = (
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    )
    return f"{type(error).__name__} at {' > '.join(lines)}"
