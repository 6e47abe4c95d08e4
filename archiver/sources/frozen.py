"""A claim that was frozen: the batch that a spool gives to the pipeline."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from archiver import durable, segment
from archiver.block import Block
from archiver.errors import SourceError
from archiver.sources.base import Input, InputChangedError, batch_name
from archiver.sources.claim import RECORD, Claim
from archiver.sources.files import BLOCK_BYTES, format_of, read_file
from archiver.sources.filing import Stamp, fitted, is_written, open_regular, place, shown, told, writers_of
from archiver.sources.names import original, printable

Done = Literal["delete", "keep"]

DONE = "done"
FOR_A_DAY = "for-a-day"

_FORMAT = 1
_LAST_MICROSECOND = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True)
class FrozenFile:
    """A file of a batch.

    Attributes:
        name: What it was called in the spool.
        claimed: What it is called in the claim.
        guarded: Nobody can have been writing to it when it was frozen.
    """

    name: str
    claimed: str
    digest: str
    stamp: Stamp
    guarded: bool


class SpoolBatch:
    """See `archiver.sources.base.Batch`."""

    def __init__(
        self,
        claim: Claim,
        freeze_id: str,
        base: int,
        files: tuple[FrozenFile, ...],
        *,
        done: Done,
        block_bytes: int,
    ) -> None:
        self.base = base
        self.inputs = tuple(Input(printable(each.name), each.digest, each.stamp.bytes) for each in files)
        self.batch = batch_name(freeze_id, self.inputs)
        self._claim = claim
        self._freeze_id = freeze_id
        self._files = files
        self._done = done
        self._block_bytes = block_bytes
        self._acknowledged = False

    @classmethod
    def freeze(
        cls,
        claim: Claim,
        base: Callable[[], int],
        troubles: list[SourceError],
        *,
        done: Done = "delete",
        block_bytes: int = BLOCK_BYTES,
    ) -> SpoolBatch | None:
        """Freeze what is in a claim; None if nothing is left.

        A file that is being written goes back to the spool, and one that cannot be read
        too, with an error added to `troubles`.

        Raises:
            SourceError: The spool does not let us. The claim is still held.
        """
        files = []
        for name, path in claim.files():
            try:
                frozen = _frozen(name, path)
            except OSError as error:
                frozen = None
                troubles.append(SourceError(f"{shown(claim.spool / name)}: cannot read it: {error.strerror}"))
            if frozen is not None:
                files.append(frozen)
                continue
            with told(path, "put it back"):
                claim.give_back(name, path)
        if not files:
            claim.dissolve()
            return None
        batch = cls(claim, secrets.token_hex(16), base(), tuple(files), done=done, block_bytes=block_bytes)
        with told(claim.folder, "freeze the claim"):
            # The files must be here for good before the record says so.
            durable.sync_folder(claim.folder)
            durable.sync_folder(claim.spool)
            durable.create(claim.folder / RECORD, batch._record())
        return batch

    @classmethod
    def load(
        cls, claim: Claim, *, done: Done = "delete", block_bytes: int = BLOCK_BYTES
    ) -> SpoolBatch | None:
        """Take up the batch that a claim was frozen to; None if it was not frozen.

        Raises:
            SourceError: The record cannot be read. The claim is still held.
        """
        path = claim.folder / RECORD
        hint = f"remove {RECORD}: the files beside it make a new batch; what is archived counts as duplicate"
        with told(path, "read it", hint=hint):
            try:
                record = json.loads(path.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise SourceError(f"{path}: not a batch's record: {error}", hint=hint) from error
        try:
            files = tuple(_file_from(each) for each in record["inputs"])
            batch = cls(claim, record["freeze_id"], record["base"], files, done=done, block_bytes=block_bytes)
            whole = record["format"] == _FORMAT and record["batch"] == batch.batch
        except (KeyError, TypeError, ValueError, AttributeError):
            whole = False
        if not whole:
            raise SourceError(f"{path}: not a batch's record, or an altered one", hint=hint)
        claim.names.update((each.claimed, each.name) for each in files)
        return batch

    def read(self) -> Iterator[Block]:
        ordinal = 0
        for number, each in enumerate(self._files):
            path = self._claim.folder / each.claimed
            how = format_of(each.name) or format_of(each.claimed)
            if how is None:
                raise SourceError(f"{shown(path)}: a file of no known kind in a batch")
            handle = self._open(path)
            with told(path, "read it"), os.fdopen(handle, "rb", buffering=0) as file:
                _check(path, each.stamp, handle)
                received_at = min(max(each.stamp.mtime_ns // 1000, 0), _LAST_MICROSECOND)
                for block in read_file(
                    file,
                    how,
                    size=each.stamp.bytes,
                    input_number=number,
                    first_ordinal=ordinal,
                    received_at=received_at,
                    block_bytes=self._block_bytes,
                ):
                    ordinal += len(block.bodies) + len(block.rejections)
                    yield block
                _check(path, each.stamp, handle)

    def moves(self) -> dict[str, Any]:
        return {}

    def acknowledge(self) -> None:
        if self._acknowledged:
            return
        if not self._claim.held:
            raise SourceError(f"batch {self.batch}: was given up, so it cannot be acknowledged here")
        folder = self._claim.folder
        with told(folder, "acknowledge the batch", hint="run again: it goes on where it stopped"):
            placed = [self._placed(folder / each.claimed, each) for each in self._files]
            for target in {path.parent for path in placed if path is not None}:
                durable.sync_folder(target)
            for each in self._files:
                (folder / each.claimed).unlink(missing_ok=True)
            durable.sync_folder(folder)  # before the record goes: files without one would be read again
        self._claim.dissolve()
        self._acknowledged = True

    def release(self) -> None:
        self._claim.release()

    def put_back(self) -> None:
        self._claim.dissolve()

    def _placed(self, path: Path, each: FrozenFile) -> Path | None:
        """Give a file the name it shall have from now on; None if it needs none, or has gone already."""
        try:
            stamp = Stamp.of(os.lstat(path))
        except FileNotFoundError:
            return None
        grown = stamp != each.stamp or is_written(path)
        if grown:
            # What of it is archived will count as duplicate; what was added must not be lost.
            return place(path, self._claim.spool, each.name)
        if self._done == "delete" and each.guarded:
            return None
        day = datetime.now(UTC).date().isoformat()
        if self._done == "keep" and each.guarded:
            target, name = self._claim.spool / DONE / day, each.name
        else:
            # Somebody may have it open and write on. Its stamp in its name tells, a day later.
            target = self._claim.spool / DONE / FOR_A_DAY / day
            name = fitted(f"{stamp.bytes}.{stamp.mtime_ns}.", each.name)
        durable.make_folders(target)
        return place(path, target, name)

    def _open(self, path: Path) -> int:
        try:
            return open_regular(path)
        except FileNotFoundError:
            raise SourceError(
                f"{shown(path)}: is gone, though its batch {self.batch} was neither archived nor put back",
                hint=f"bring it back; or remove {RECORD} beside it, and the next run goes on without it",
            ) from None
        except OSError as error:
            raise SourceError(f"{shown(path)}: cannot read it: {error.strerror}") from error

    def _record(self) -> bytes:
        inputs: list[dict[str, Any]] = [
            {
                "name": shown_input.name,
                "digest": each.digest,
                "bytes": each.stamp.bytes,
                "claimed": printable(each.claimed),
                "inode": each.stamp.inode,
                "mtime_ns": each.stamp.mtime_ns,
                "guarded": each.guarded,
            }
            for each, shown_input in zip(self._files, self.inputs, strict=True)
        ]
        record = {
            "format": _FORMAT,
            "freeze_id": self._freeze_id,
            "batch": self.batch,
            "base": self.base,
            "inputs": inputs,
        }
        return json.dumps(record, indent=1).encode()


def _file_from(entry: dict[str, Any]) -> FrozenFile:
    stamp = Stamp(entry["inode"], entry["bytes"], entry["mtime_ns"])
    claimed = original(entry["claimed"])
    if "/" in claimed or not all(isinstance(part, int) for part in stamp):
        raise ValueError(claimed)
    return FrozenFile(original(entry["name"]), claimed, entry["digest"], stamp, entry["guarded"] is True)


def _frozen(name: str, path: Path) -> FrozenFile | None:
    """Look at a file and digest it; None if it is being written."""
    handle = open_regular(path)
    with os.fdopen(handle, "rb", buffering=0) as file:
        stamp = Stamp.of(os.fstat(handle))
        writers = writers_of(handle)  # of a segment, too: somebody may be copying it in
        if writers == "unknown" and segment.is_own_name(name):
            writers = "none"  # our own were complete before they had their names
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if writers == "some" or Stamp.of(os.fstat(handle)) != stamp:
            return None
    return FrozenFile(name, path.name, f"sha256:{digest}", stamp, writers == "none")


def _check(path: Path, frozen: Stamp, handle: int) -> None:
    found = Stamp.of(os.fstat(handle))
    if found != frozen:
        raise InputChangedError(
            f"{shown(path)}: changed since it was claimed, from {frozen.bytes} bytes to {found.bytes}",
            hint="run again: it is taken as it is when nobody writes to it",
        )
