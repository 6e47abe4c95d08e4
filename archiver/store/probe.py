"""Does a store create atomically? Tried, not believed: the whole commit protocol rests on it."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

from archiver import layout
from archiver.errors import (
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)
from archiver.store.base import Store


@dataclass(frozen=True, slots=True)
class RaceReport:
    """What came of the races.

    Attributes:
        rounds: How many were run.
        problems: What went wrong, a sentence each; empty when the store can hold an archive.
        left_behind: Keys that could not be deleted afterwards.
    """

    rounds: int
    problems: tuple[str, ...]
    left_behind: tuple[str, ...] = ()

    @property
    def is_atomic(self) -> bool:
        return not self.problems


def race_creates(store: Store, *, writers: int = 8, rounds: int = 30) -> RaceReport:
    """Let `writers` threads create the same new key with different bytes, `rounds` times.

    In each round exactly one may win, its bytes are what is read, and a later create
    changes nothing. The keys lie under `_probe/` and are deleted again.

    Raises:
        StoreError: The store could not be written or read at all.
    """
    name = secrets.token_hex(8)
    keys = [f"{layout.PROBES}{name}-{number}" for number in range(rounds)]
    problems = []
    try:
        with ThreadPoolExecutor(writers) as threads:
            for key in keys:
                problem = _one_round(store, key, writers, threads)
                if problem:
                    problems.append(f"{key}: {problem}")
    finally:
        left_behind = _delete(store, keys)
    return RaceReport(rounds, tuple(problems), left_behind)


def _one_round(store: Store, key: str, writers: int, threads: ThreadPoolExecutor) -> str:
    """Return what went wrong, or nothing."""
    contents = [f"writer {number} {secrets.token_hex(16)}".encode() for number in range(writers)]
    line = Barrier(writers)

    def create(content: bytes) -> bool | None:
        line.wait()
        return _create(store, key, content)

    outcomes = list(threads.map(create, contents))
    winners = [content for content, won in zip(contents, outcomes, strict=True) if won]
    # A create without an answer may have won, but only where nobody was told so.
    unknown = [content for content, won in zip(contents, outcomes, strict=True) if won is None]
    if len(winners) > 1:
        return f"{len(winners)} of {writers} concurrent creates succeeded, expected one"
    try:
        found = store.get(key)
    except ObjectNotFoundError:
        return f"nothing there after {writers} concurrent creates, {len(winners)} of them told that they won"
    if found not in (winners or unknown):
        return "the bytes read are not those of the create that succeeded"
    if _create(store, key, b"late") or store.get(key) != found:
        return "a later create succeeded over an object that was there"
    return ""


def _create(store: Store, key: str, content: bytes) -> bool | None:
    """Whether the create won; None without an answer."""
    try:
        store.put_once(key, content)
    except PreconditionFailedError:
        return False
    except WriteOutcomeUnknownError:
        return None
    return True


def _delete(store: Store, keys: list[str]) -> tuple[str, ...]:
    """Delete them; return those that the store kept. A role without that right may still archive."""
    try:
        gone = store.delete(keys)
    except StoreError:
        return tuple(keys)
    return tuple(key for key, _ in gone.kept)
