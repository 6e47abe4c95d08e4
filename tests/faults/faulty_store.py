"""Any store, with faults at chosen calls.

    plan = FaultPlan()
    plan.at(7, "fails")                                    # the seventh call of all
    plan.on("put_once", "lands_later", nth=2)              # the second of a method
    plan.on("put", "fails", key=lambda k: k.startswith("_quarantine/"))
    store = FaultyStore(LocalStore(folder), plan)
    ...
    plan.release()                                         # late writes arrive now
    plan.calls                                             # what was called, in order

A run without faults tells by `plan.calls` how many calls there are to spoil. Reads through
`arrow()` and `local_path()` go past this wrapper and are neither counted nor spoiled.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar, get_args

from pyarrow import fs

from archiver.errors import PreconditionFailedError, StoreError, WriteOutcomeUnknownError
from archiver.spans import Span
from archiver.store.base import Deleted, ObjectInfo, PutMode, Store

Fault = Literal["fails", "lands_without_reply", "lands_later", "slow"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
SLOW_SECONDS = 0.3
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the store. `key` is the prefix of a list, the first key of a delete, else empty."""

    method: str
    key: str


@dataclass(slots=True)
class _Rule:
    fault: Fault
    method: str | None
    key: Callable[[str], bool] | None
    nth: int  # 0: every matching call
    seen: int = 0

    def applies(self, call: Call) -> bool:
        if self.method not in (None, call.method) or (self.key is not None and not self.key(call.key)):
            return False
        self.seen += 1
        return self.nth in (0, self.seen)


class FaultPlan:
    """Which calls meet which fault.

    - `fails`: nothing happens, and the call raises what a real store would;
    - `lands_without_reply`: it is done, and the call raises the same;
    - `lands_later`: the call raises the same, and the write is done at `release()`, if
      its place is still free then (reads just fail);
    - `slow`: it is done after `SLOW_SECONDS`.

    Of several rules for one call the first wins. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.struck: list[Call] = []
        self._rules: list[_Rule] = []
        self._late: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def at(self, number: int, fault: Fault) -> None:
        """Spoil the call with this number, counted from 1 over all methods from now on."""
        self._rules.append(_Rule(fault, None, None, number))

    def on(
        self, method: str, fault: Fault, *, key: Callable[[str], bool] | None = None, nth: int = 1
    ) -> None:
        """Spoil the `nth` call of `method` whose key satisfies `key`; each of them when `nth` is 0."""
        self._rules.append(_Rule(fault, method, key, nth))

    def release(self) -> None:
        """Let the late writes arrive, in the order they were sent."""
        with self._lock:
            late, self._late = self._late, []
        for write in late:
            write()

    def take(self, call: Call) -> Fault | None:
        """Note a call and return the fault it shall meet."""
        with self._lock:
            self.calls.append(call)
            met = [rule.fault for rule in self._rules if rule.applies(call)]
            if met:
                self.struck.append(call)
            return met[0] if met else None

    def delay(self, write: Callable[[], None]) -> None:
        with self._lock:
            self._late.append(write)


class FaultyStore:
    """`inner`, spoiled as `plan` says. A `Store` itself."""

    def __init__(self, inner: Store, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan

    @property
    def location(self) -> str:
        return self.inner.location

    def put(self, key: str, content: bytes, *, mode: PutMode = "create") -> None:
        self._call("put", key, lambda: self.inner.put(key, content, mode=mode), writes=True)

    def put_once(self, key: str, content: bytes) -> None:
        self._call("put_once", key, lambda: self.inner.put_once(key, content), writes=True)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return self._call("get", key, lambda: self.inner.get(key, start=start, length=length))

    def info(self, key: str) -> ObjectInfo:
        return self._call("info", key, lambda: self.inner.info(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from self._call("list", prefix, lambda: self.inner.list(prefix, start_after=start_after))

    def delete(self, keys: Iterable[str]) -> Deleted:
        every = [*keys]
        first = every[0] if every else ""
        return self._call("delete", first, lambda: self.inner.delete(every), writes=True)

    @property
    def lock_keep(self) -> Span | None:
        return self.inner.lock_keep

    def lock(self, keys: Iterable[str], until: datetime) -> int:
        every = [*keys]
        return self._call(
            "lock", every[0] if every else "", lambda: self.inner.lock(every, until), writes=True
        )

    def locked_until(self, key: str) -> datetime | None:
        return self._call("locked_until", key, lambda: self.inner.locked_until(key))

    def delete_temporaries(self, *, older_than_seconds: float) -> int:
        return self.inner.delete_temporaries(older_than_seconds=older_than_seconds)

    def settle(self) -> None:
        self._call("settle", "", self.inner.settle)

    def arrow(self) -> tuple[fs.FileSystem, str]:
        return self.inner.arrow()

    def local_path(self, key: str) -> str | None:
        return self.inner.local_path(key)

    def _call(self, method: str, key: str, perform: Callable[[], Result], *, writes: bool = False) -> Result:
        fault = self.plan.take(Call(method, key))
        if fault is None:
            return perform()
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
            return perform()
        if fault == "lands_without_reply":
            # What the store answers is lost, its refusal too.
            with contextlib.suppress(StoreError):
                perform()
        if fault == "lands_later" and writes:
            self.plan.delay(lambda: _arrive(perform))
        kind = WriteOutcomeUnknownError if method == "put_once" else StoreError
        raise kind(f"{self.location}/{key}: {method} {fault}", hint="a fault of the test's plan")


def _arrive(write: Callable[[], object]) -> None:
    with contextlib.suppress(PreconditionFailedError):
        write()
