"""Accepting TLS connections: a handshake costs memory and time, and may never end.

The server counts a connection when its handshake is done. Before, it is here: so many may
be under way at once, and for one more the oldest is closed. So nobody can fill the table
of open files, or memory, with connections that say nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

_MOST_AT_ONCE: Final = 64
_TRY_AGAIN_SECONDS: Final = 0.2

_log = logging.getLogger("archiver.receiver")


class Handshakes:
    """Accepts from one socket, in the running event loop; to uvicorn it is one of its servers.

    Args:
        listening: Bound; listens from now on.
        protocol: Makes the protocol of a connection whose handshake is done.
        most: How many handshakes may be under way.
        seconds: What one may take.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        backlog: int,
        most: int,
        seconds: float,
    ) -> None:
        self._listening = listening
        self._context = context
        self._protocol = protocol
        self._most = most
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        # In the order in which they began.
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._is_closed = False
        listening.setblocking(False)
        listening.listen(backlog)
        self._go_on()

    def close(self) -> None:
        """Accept no more; what is under way may come to its end."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listening)
            self._listening.close()

    async def wait_closed(self) -> None:
        """End what is still under way."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _go_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:  # too many open files, no memory: the socket stays readable
                _log.error("cannot accept connections: %s", error.strerror)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_TRY_AGAIN_SECONDS, self._go_on)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._shake_hands(connection))
            self._under_way[task] = None
            task.add_done_callback(self._done)
            if len(self._under_way) > self._most:
                oldest = next(iter(self._under_way))
                del self._under_way[oldest]
                oldest.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)

    async def _shake_hands(self, connection: socket.socket) -> None:
        # Whatever the other side does wrong is its own affair, and not worth a line for each time.
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
            await self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
