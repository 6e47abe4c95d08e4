"""All checks, in the order in which a reader would mend things."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archiver import clock, layout
from archiver.archive import Archive, open_archive
from archiver.config import Settings
from archiver.doctor.destinations import check_destinations
from archiver.doctor.machine import check_versions
from archiver.doctor.plan import check_plan
from archiver.doctor.sources import check_sources
from archiver.doctor.spool import check_spool
from archiver.doctor.storage import (
    check_clock,
    check_ledger_clock,
    check_locks,
    check_permissions,
    check_race,
)
from archiver.doctor.streams import check_inbox, check_receiving
from archiver.errors import ArchiveNotFoundError, ArchiverError
from archiver.store.base import Store
from archiver.store.health import Check

RACE_ROUNDS = 30


@dataclass(slots=True)
class DoctorReport:
    """The checks in the order they were made."""

    checks: list[Check] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return not any(check.status == "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "doctor_report",
            "well": self.is_well,
            "checks": [check.to_json() for check in self.checks],
        }


def examine(
    open_store: Callable[[], Store],
    spools: Sequence[Path] = (),
    *,
    rounds: int = RACE_ROUNDS,
    now_us: Callable[[], int] = clock.now_us,
    settings: Settings | None = None,
) -> DoctorReport:
    """Examine store, archive, spools, databases, destinations and machine.

    Writes probe objects under `_probe/` and in the spools dot-files, and takes them away
    again. Raises nothing for what it finds.

    Args:
        open_store: Returns the store; what it raises is a finding.
        rounds: How often eight writers race for one name.
        now_us: This machine's clock.
        settings: What is configured of streams, the receiver, pings, databases and destinations;
            None: nothing.
    """
    report = DoctorReport([check_versions()])
    archive: Archive | None = None
    try:
        store = open_store()
    except ArchiverError as error:
        report.checks.append(Check("archive location", "failed", error.message, error.hint))
    else:
        with _leaving_no_folder(store):
            report.checks.extend(_check_store(store, rounds, now_us))
        if report.is_well:
            found, archive = _check_archive(store)
            report.checks.append(found)
            if archive is not None:
                report.checks.append(check_ledger_clock(archive.ledger.snapshot.committed_us, now_us()))
                report.checks.append(check_locks(archive))
        else:
            report.checks.append(Check("archive", "skipped", "the store does not work yet"))
    if not spools:
        report.checks.append(
            Check("spool", "skipped", "no spool was named", "give --spool DIR to look at one")
        )
    for spool in spools:
        report.checks.extend(check_spool(spool, archive))
        if spool.is_dir():
            report.checks.extend(check_inbox(spool, now_us()))
    settings = settings or Settings()
    report.checks.extend(check_receiving(settings, spools, now_us()))
    report.checks.extend(check_plan(settings))
    report.checks.extend(check_sources(settings, archive))
    report.checks.extend(check_destinations(settings, archive, spools, now_us()))
    return report


@contextlib.contextmanager
def _leaving_no_folder(store: Store) -> Iterator[None]:
    """Take away the folder that the probes made: a mistyped location must not come into being."""
    probe = store.local_path(f"{layout.PROBES}x")
    root = Path(probe).parent.parent if probe else None
    was_there = root is None or root.exists()
    yield
    if root is not None and not was_there:
        with contextlib.suppress(OSError):
            root.rmdir()


def _check_store(store: Store, rounds: int, now_us: Callable[[], int]) -> Iterator[Check]:
    if store.location.startswith("s3://"):
        # boto3 takes 0.2 s to import, which a local folder need not pay.
        from archiver.store.s3 import S3Store  # noqa: PLC0415
        from archiver.store.s3_doctor import examine_bucket  # noqa: PLC0415

        if isinstance(store, S3Store):
            failed = False
            for check in examine_bucket(store):
                failed = failed or check.status == "failed"
                yield check
            if failed:
                return
    checks, written_at = check_permissions(store)
    yield from checks
    if written_at is None:
        return
    yield check_clock(written_at, now_us())
    yield check_race(store, rounds)


def _check_archive(store: Store) -> tuple[Check, Archive | None]:
    try:
        archive = open_archive(store)
    except ArchiveNotFoundError as error:
        fix = "correct the location, or create one: archiver init"
        return Check("archive", "warning", error.message, fix), None
    except ArchiverError as error:
        return Check("archive", "failed", error.message, error.hint or "run `archiver verify`"), None
    head = archive.ledger.snapshot.sequence
    found = (
        f"{archive.id}, {archive.encoding.format}, head {head}: its format can be read and its chain is whole"
    )
    return Check("archive", "ok", found), archive
