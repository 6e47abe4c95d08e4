"""Room for bodies that are large, shared by all connections: who may read on, and who goes first.

A signature covers the whole body, so all of it must be in memory before anybody can tell
a sender from a stranger who pretends to be one. What is small (64 KiB) needs no room.

    The reader that began first always gets what it asks for, so one of them always comes to
    its end; the others get what would be left if that one needed all that a body may have.
    When there is too little, the slowest stranger is closed: who sends slowly to keep the
    room taken, and the longer the sooner.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final, Protocol

from archiver.receiver.writer import RefusedError
from archiver.segment import LARGEST_BODY_BYTES

PATIENCE_SECONDS: Final = 10.0
_LOOK_AGAIN_SECONDS: Final = 0.25
_TIME_TO_SHOW_SECONDS: Final = 1.0


class Sender(Protocol):
    """The other end of a connection."""

    is_known: bool

    def drop(self) -> None: ...


class Share:
    """What one body has of the room.

    Attributes:
        waits_for_us: Whether its sender can do nothing at the moment: there is no room, or all has come.
    """

    __slots__ = ("began", "sender", "taken", "waits_for_us")

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.taken = 0
        self.began = time.monotonic()
        self.waits_for_us = False

    def bytes_per_second(self, now: float) -> float:
        return self.taken / max(now - self.began, 0.001)


class LargeBodies:
    """The room. For one event loop.

    Args:
        size: In bytes; no less than one body may have.
    """

    def __init__(self, size: int) -> None:
        self._left = max(size, LARGEST_BODY_BYTES)
        self._given_back = asyncio.Event()
        # In the order in which they began.
        self._shares: OrderedDict[Share, None] = OrderedDict()

    async def take(self, share: Share, count: int) -> None:
        """Wait for so much more room.

        Raises:
            RefusedError: There was none for ten seconds.
        """
        self._shares[share] = None
        if not self._fits(share, count):
            await self._wait(share, count)
        self._left -= count
        share.taken += count

    def give_back(self, share: Share) -> None:
        """End a share. Safe for one that never took anything."""
        if share in self._shares:
            del self._shares[share]
            self._left += share.taken
            share.taken = 0
            self._given_back.set()

    def _fits(self, share: Share, count: int) -> bool:
        first = next(iter(self._shares))
        reserved = 0 if first is share else LARGEST_BODY_BYTES - first.taken
        return count + reserved <= self._left

    async def _wait(self, share: Share, count: int) -> None:
        began = time.monotonic()
        end = began + PATIENCE_SECONDS
        share.waits_for_us = True
        try:
            while not self._fits(share, count):
                if time.monotonic() > end:
                    raise RefusedError("too many large bodies at once")
                self._given_back.clear()
                try:
                    await asyncio.wait_for(self._given_back.wait(), _LOOK_AGAIN_SECONDS)
                except TimeoutError:
                    self._close_the_slowest()
        finally:
            share.waits_for_us = False
            share.began += time.monotonic() - began

    def _close_the_slowest(self) -> None:
        now = time.monotonic()
        slow = [
            share
            for share in self._shares
            if not (share.waits_for_us or share.sender.is_known) and now - share.began > _TIME_TO_SHOW_SECONDS
        ]
        if slow:
            min(slow, key=lambda share: share.bytes_per_second(now)).sender.drop()
