"""The bodies as they came, one a line: what an archive gives back without any of us."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archiver import columns, datafile
from archiver.archive import Archive
from archiver.errors import ConfigError, IntegrityError
from archiver.ledger.entry import DataFile, digest_of
from archiver.store.base import Store

Exported = Literal["events", "alerts", "supplements", "all"]
EXPORTED: Final[tuple[str, ...]] = get_args(Exported)
_BATCH_ROWS: Final = 8_192
_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def export(
    archive: Archive,
    *,
    dataset: Exported = "events",
    workspace: str | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Iterator[bytes]:
    """Return the bodies of the present snapshot, each with a line feed behind it.

    A body is what was delivered, byte for byte, but for line breaks inside it, which can
    only be white space there and become spaces. They come by day, workspace and file, one
    file in memory at a time; only files that can hold a match are read, and each is held
    against its digest.

    Args:
        dataset: `all` for the three of them.
        workspace: Only this one.
        since, until: Only events at or after `since` and before `until`, by `event_time`, in
            microseconds since 1970.

    Raises:
        ConfigError: There is no such dataset.
        IntegrityError: A file is not what the ledger says.
        StoreError: A file could not be read.
    """
    if dataset not in EXPORTED:
        raise ConfigError(f"no dataset is called {dataset!r:.40}", hint=f"there are {', '.join(EXPORTED)}")
    chosen = archive.ledger.snapshot.files.select(
        None if dataset == "all" else dataset,
        workspaces=None if workspace is None else (workspace,),
        since_us=since,
        until_us=until,
    )
    chosen.sort(key=lambda file: ((where := file.partition).dt, where.workspace, file.key))
    return _lines(archive.store, chosen, since, until)


def _lines(store: Store, files: list[DataFile], since: int | None, until: int | None) -> Iterator[bytes]:
    for file in files:
        content = store.get(file.key)
        if (found := digest_of(content)) != file.digest:
            raise IntegrityError(
                f"{file.key}: expected {file.digest}, found {found}",
                hint="run `archiver verify`: the file was altered",
            )
        for body in _bodies(content, file, since, until):
            yield body.translate(_SPACES) + b"\n"


def _bodies(content: bytes, file: DataFile, since: int | None, until: int | None) -> Iterator[bytes]:
    whole = (since is None or file.min_us >= since) and (until is None or file.max_us < until)
    if not file.key.endswith(".parquet"):
        if whole:
            yield from datafile.bodies_of(content, file.key)
            return
        table = datafile.decode(
            content, file.key, file.partition.dataset, ["body"], where=_within(since, until)
        )
        for text in table["body"].to_pylist():
            yield text.encode()
        return
    try:
        for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches(
            _BATCH_ROWS, columns=["body"] if whole else ["body", "event_time"]
        ):
            rows = batch if whole else batch.filter(_within(since, until))
            for text in rows.column("body").to_pylist():
                if text is None:
                    raise IntegrityError(f"{file.key}: a row has no body")
                yield text.encode()
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{file.key}: cannot be read as Parquet: {error}"[:400]) from error


def _within(since: int | None, until: int | None) -> pc.Expression:
    at = pc.field("event_time")
    found = pc.scalar(True)
    if since is not None:
        found = found & (at >= pa.scalar(since, columns.TIME))
    if until is not None:
        found = found & (at < pa.scalar(until, columns.TIME))
    return found
