"""`verify`: the commits, the listing, the bytes, the identities, one after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from archiver import layout
from archiver.errors import ConfigError, IntegrityError, ObjectNotFoundError
from archiver.ledger.entry import decode
from archiver.progress import Progress, Silent
from archiver.store.base import Store
from archiver.verify.chain import Chain, read_links
from archiver.verify.fold import State
from archiver.verify.listing import check_listing
from archiver.verify.objects import check_objects
from archiver.verify.report import Findings, VerifyReport

_EXPECTED: Final = re.compile(r"([0-9]{1,20}):(sha256:[0-9a-f]{64})", re.ASCII)


class Expected(NamedTuple):
    """A commit that was written down earlier."""

    sequence: int
    digest: str


def parse_expected(text: str) -> Expected:
    """Read `SEQUENCE:sha256:<hex>`.

    Raises:
        ConfigError: It is of another form.
    """
    found = _EXPECTED.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"expected commit {text[:100]!r}: not of the form 42:sha256:<64 hex digits>",
            hint="copy the head that an earlier `run` or `verify` printed",
        )
    return Expected(int(found[1]), found[2])


def verify(
    store: Store,
    *,
    quick: bool = False,
    expect: Sequence[tuple[int, str]] = (),
    progress: Progress | None = None,
    read_threads: int = 8,
) -> VerifyReport:
    """Check everything that the archive in `store` promises, and report all that is wrong.

    Trusts the bytes in the store and nothing else: no cache, no index, no earlier check.
    Runs beside writers: what is committed meanwhile is left to the next check. Memory holds
    the ledger's list of files, about 200 MB of objects, and the identities of one workspace
    (of up to 16 million; more go through temporary files).

    Args:
        quick: Read the ledger and list the objects, and read none of them: bytes that were
            exchanged for as many others, and what is wrong with rows, are not found.
        expect: Commits written down earlier; what finds a ledger cut short or written anew.

    Raises:
        ArchiveNotFoundError: No commit is there at all.
        StoreError: The store cannot be listed, or gives hardly any object.
    """
    started = time.monotonic()
    progress = progress or Silent()
    report = VerifyReport(level="quick" if quick else "full", location=store.location)
    findings = Findings(report)
    chain, state = Chain(), State()
    progress.start("reading the ledger", None)
    for link in read_links(store, findings, read_threads, progress):
        chain.keep(link)
        state.apply(link, findings)
        report.commits += 1
    progress.finish()
    chain.check(findings)
    chain.hold_against(expect, findings)
    report.head, report.head_digest = chain.head, chain.digests.get(chain.head, "")
    here = check_listing(store, state, findings, removed_since=lambda: _removed_since(store, chain.head))
    if quick:
        report.rows = sum(named.file.rows for key, named in state.files.items() if key in here)
    else:
        check_objects(store, state, here, findings=findings, progress=progress, threads=read_threads)
    report.seconds = time.monotonic() - started
    return report


def _removed_since(store: Store, head: int) -> set[str]:
    """Return what commits behind `head`, made while this ran, allow to be absent."""
    gone: set[str] = set()
    sequence = head + 1
    while True:
        key = layout.commit(sequence)
        try:
            said = decode(store.get(key), key)
        except (ObjectNotFoundError, IntegrityError):
            return gone
        gone.update(said.content.removed)
        sequence += 1
