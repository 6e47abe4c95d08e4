"""Any store, folder or bucket: may we, is it atomic, and what time is it there?"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

from archiver import clock, layout
from archiver.archive import Archive
from archiver.errors import ArchiverError, ObjectNotFoundError, StoreError
from archiver.lock import unlocked
from archiver.store.base import ObjectInfo, Store
from archiver.store.health import Check
from archiver.store.probe import race_creates

_SECOND_US: Final = 1_000_000
TOLERATED_US: Final = 60 * _SECOND_US
MOST_US: Final = 15 * 60 * _SECOND_US
_COMMITS_LOOKED_AT: Final = 10


def check_permissions(store: Store) -> tuple[list[Check], datetime | None]:
    """Write a probe object, read, list and delete it.

    Returns:
        One check for each, up to the first without which the others mean nothing; and when
        the store says that the probe was written, or None.
    """
    key, content = f"{layout.PROBES}doctor-{secrets.token_hex(8)}", secrets.token_bytes(64)
    checks: list[Check] = []
    written_at: list[ObjectInfo] = []

    def attempt(name: str, what: Callable[[], str]) -> bool:
        try:
            wrong = what()
        except ArchiverError as error:
            checks.append(Check(name, "failed", error.message, error.hint))
            return False
        if wrong:
            checks.append(
                Check(name, "failed", f"{store.location}: {wrong}", "this place cannot hold an archive")
            )
            return False
        checks.append(Check(name, "ok", store.location))
        return True

    def write() -> str:
        store.put(key, content)
        return ""

    def read() -> str:
        if store.get(key) != content or store.get(key, start=8, length=8) != content[8:16]:
            return "gives other bytes than were written"
        written_at.append(store.info(key))
        return ""

    def list_() -> str:
        return (
            "" if key in [one.key for one in store.list(layout.PROBES)] else "does not list what was written"
        )

    def delete() -> str:
        store.delete([key])
        try:
            store.get(key)
        except ObjectNotFoundError:
            return ""
        return "still gives an object that was deleted"

    if not attempt("write", write):
        return checks, None
    attempt("read", read)
    attempt("list", list_)
    if not attempt("delete", delete):
        failed = checks.pop()
        fix = failed.fix or "a retention rule may cover `_probe/`"
        found = f"{failed.found} ({key} is left there; `run` works without, `collect` does not)"
        checks.append(Check("delete", "warning", found, fix))
    return checks, written_at[0].modified_at if written_at else None


def check_race(store: Store, rounds: int) -> Check:
    """Let writers race for one name: exactly one may win."""
    name = "conditional create"
    fix = "use a store that honours `If-None-Match: *` (AWS S3, R2, MinIO, Ceph) or a local folder"
    try:
        report = race_creates(store, rounds=rounds)
    except StoreError as error:
        return Check(name, "failed", error.message, error.hint or fix)
    if report.problems:
        return Check(name, "failed", report.problems[0], fix)
    return Check(name, "ok", f"eight writers raced {report.rounds} times, one won each time")


def check_clock(written_at: datetime, now_us: int) -> Check:
    """Hold the store's clock against ours."""
    apart = now_us - clock.to_us(written_at)
    fix = "set this machine's clock by NTP (timedatectl set-ntp true), and look at that of the store"
    found = f"this machine and the store are {abs(apart) / _SECOND_US:,.0f} s apart"
    if abs(apart) > MOST_US:
        return Check("clock", "failed", found, fix)
    if abs(apart) > TOLERATED_US:
        return Check("clock", "warning", found, fix)
    return Check("clock", "ok", found)


def check_ledger_clock(committed_us: int, now_us: int) -> Check:
    """Look whether a writer's clock was ahead."""
    ahead = committed_us - now_us
    if ahead > TOLERATED_US:
        found = f"the newest commit says {clock.to_text(committed_us)}, {ahead / _SECOND_US:,.0f} s from now"
        fix = (
            "set the clock of the machine that wrote it; until then commits repeat this time, nothing is lost"
        )
        return Check("ledger clock", "warning", found, fix)
    return Check("ledger clock", "ok", f"the newest commit is of {clock.to_text(committed_us)}")


def check_locks(archive: Archive) -> Check:
    """Look whether what the newest commits name is locked, where it should be."""
    name, keep = "locks", archive.store.lock_keep
    if keep is None:
        return Check(name, "skipped", "no Object Lock is configured (object_lock)")
    try:
        missing = unlocked(archive, commits=_COMMITS_LOOKED_AT)
    except StoreError as error:
        return Check(name, "warning", error.message, error.hint)
    if missing:
        found = f"{missing[0]} and {len(missing) - 1} more objects that count are not locked"
        fix = "run `archiver retain`, which locks them; it needs s3:PutObjectRetention"
        return Check(name, "warning", found, fix)
    return Check(name, "ok", f"what the newest commits name is locked, for {keep} from each commit's day")
