"""The receiver as an ASGI application: one door a stream, and three paths that tell how it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from archiver.receiver.delivery import Door
from archiver.receiver.lookout import Lookout
from archiver.receiver.metrics import CONTENT_TYPE, Metrics
from archiver.receiver.writer import SpoolWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

_SHARE_OF_TIME: Final = 0.05


class Receiver:
    """The parts of one receiver.

    Attributes:
        doors: Path -> door.
        writers: One for each spool folder.
        lookout: Counts what waits in these folders.
    """

    def __init__(self, doors: dict[str, Door], writers: Sequence[SpoolWriter], metrics: Metrics) -> None:
        self.doors = doors
        self.writers = writers
        self.metrics = metrics
        self.lookout = Lookout([writer.folder for writer in writers])
        self.is_stopping = False
        self._next_page: asyncio.Task[bytes] | None = None
        self._one_page_at_a_time = asyncio.Lock()
        self._no_page_before = 0.0

    def app(self, *, observed: bool) -> Starlette:
        """Return the application that takes deliveries; `observed` is whether it also tells how it is."""
        routes = [Route(path, door, methods=["POST"]) for path, door in self.doors.items()]
        if observed:
            routes += self._observing()
        found = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={404: self._no_stream, 405: self._no_stream},
        )
        # A sender does not follow a redirect; it counts as a failure that nobody can read off a status.
        found.router.redirect_slashes = False
        return found

    def observing_app(self) -> Starlette:
        """Return an application that only tells how this receiver is, for an address of its own."""
        return Starlette(routes=self._observing())

    def _observing(self) -> list[Route]:
        return [
            Route("/healthz", self._healthz, methods=["GET"]),
            Route("/readyz", self._readyz, methods=["GET"]),
            Route("/metrics", self._metrics_page, methods=["GET"]),
        ]

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        yield
        await asyncio.gather(*(writer.stop() for writer in self.writers))

    async def _no_stream(self, _: Request, error: Exception) -> Response:
        status = int(getattr(error, "status_code", 404))
        self.metrics.refused(status)
        headers = getattr(error, "headers", None)
        text = "there is no stream here\n" if status == 404 else "only POST\n"
        return PlainTextResponse(text, status, headers)

    async def _healthz(self, _: Request) -> Response:
        """Does it live? A restart would help if not."""
        if all(writer.is_alive for writer in self.writers):
            return PlainTextResponse("alive\n")
        return PlainTextResponse("a writer died\n", 500)

    async def _readyz(self, _: Request) -> Response:
        """Would a delivery be taken at this moment?"""
        reasons = {
            str(writer.folder): "shutting down" if self.is_stopping else writer.reason_not_ready
            for writer in self.writers
        }
        refused = {folder: reason for folder, reason in reasons.items() if reason is not None}
        return JSONResponse({"ready": not refused, "reasons": refused}, 503 if refused else 200)

    async def _metrics_page(self, _: Request) -> Response:
        """All metrics; whoever asks while nobody has begun to write them gets the same page."""
        if self._next_page is None:
            self._next_page = asyncio.create_task(self._page())
        content = await asyncio.shield(self._next_page)
        return Response(content, headers={"content-type": CONTENT_TYPE})

    async def _page(self) -> bytes:
        """Write the page, for a small share of the time at most: strangers may ask as often as they like."""
        async with self._one_page_at_a_time:
            await asyncio.sleep(max(self._no_page_before - time.monotonic(), 0.0))
            self._next_page = None
            await self.lookout.look()
            began = time.monotonic()
            try:
                return await asyncio.to_thread(self.metrics.text)
            finally:
                self._no_page_before = time.monotonic() + (time.monotonic() - began) / _SHARE_OF_TIME
