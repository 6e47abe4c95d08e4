"""One stream's door: read the body within bounds, check the signature, answer when it is durable.

What the body *contains* is never looked at here: three refusals in a row stop the sender's
stream until somebody re-enables it by hand, so a body that is signed is stored, whatever it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from archiver.receiver.metrics import StreamMetrics
from archiver.receiver.writer import RefusedError, SpoolWriter
from archiver.segment import LARGEST_BODY_BYTES
from archiver.signature import HEADER, Secrets

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

SMALL_BODY_BYTES: Final = 64 << 10
LARGE_BODIES_BYTES: Final = 128 << 20
RETRY_AFTER_SECONDS: Final = 5
_PATIENCE_SECONDS: Final = 10.0
_SIGNED_AT_ONCE_BYTES: Final = 256 << 10
_SIGNATURE: Final = HEADER.lower().encode()


class _TooLargeError(Exception):
    pass


class _DisconnectedError(Exception):
    pass


class LargeBodies:
    """Room for bodies that are large, shared by all connections; small ones need none of it.

    So a few senders of large bodies, or many who pretend to be such, cannot take all memory.
    """

    def __init__(self, size: int = LARGE_BODIES_BYTES) -> None:
        self._left = size
        self._given_back = asyncio.Condition()

    async def take(self, count: int) -> None:
        """Wait for so much room.

        Raises:
            RefusedError: There was none for ten seconds.
        """
        if count > self._left:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS), self._given_back:
                    await self._given_back.wait_for(lambda: count <= self._left)
            except TimeoutError:
                raise RefusedError("too many large bodies at once") from None
        self._left -= count

    async def give_back(self, count: int) -> None:
        if count:
            self._left += count
            async with self._given_back:
                self._given_back.notify_all()


class _Reading:
    """Reads one body; of a large one it holds room until it is given back."""

    __slots__ = ("_receive", "_room", "taken")

    def __init__(self, receive: Receive, room: LargeBodies) -> None:
        self._receive = receive
        self._room = room
        self.taken = 0

    async def body(self) -> bytes:
        buffer = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            piece: bytes = message.get("body", b"")
            if len(buffer) + len(piece) > LARGEST_BODY_BYTES:
                raise _TooLargeError
            is_last = not message.get("more_body", False)
            if is_last and not buffer:  # nearly all
                return piece
            buffer += piece
            more = len(buffer) - SMALL_BODY_BYTES - self.taken
            if more > 0:
                await self._room.take(more)
                self.taken += more
            if is_last:
                return bytes(buffer)


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
        signature, length = _told(scope["headers"])
        if length is not None and length > LARGEST_BODY_BYTES:
            await self._answer(send, 413, "too_large")
            return
        if signature is None and (length is None or length > SMALL_BODY_BYTES):
            # Not even an attempt to sign: why read it?
            await self._answer(send, 401, "unauthorized")
            return
        reading = _Reading(receive, self._room)
        try:
            body = await reading.body()
            if not await self._is_genuine(signature, body):
                await self._answer(send, 401, "unauthorized")
                return
            scope["archiver.connection"].is_known = True
            await self._writer.store(body, self.stream)
            self._metrics.count("stored", len(body))
            await send(_STORED)
            await send(_NO_BODY)
        except _DisconnectedError:
            self._metrics.count("disconnected")
        except _TooLargeError:
            await self._answer(send, 413, "too_large")
        except RefusedError as error:
            await self._answer(send, 503, "unavailable", error.message)
        finally:
            if reading.taken:
                await self._room.give_back(reading.taken)

    async def _is_genuine(self, signature: bytes | None, body: bytes) -> bool:
        if len(body) <= _SIGNED_AT_ONCE_BYTES:
            return self.secrets.signs(signature, body)
        return await asyncio.to_thread(self.secrets.signs, signature, body)

    async def _answer(self, send: Send, status: int, outcome: str, text: str = "") -> None:
        self._metrics.count(outcome)
        content = (text or _TEXTS[status]).encode() + b"\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(content)).encode()),
        ]
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
            signatures.append(value)
        elif name == b"content-length" and value.isdigit():
            length = int(value[:20])
    return (signatures[0] if len(signatures) == 1 else None), length
