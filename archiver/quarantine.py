"""What is not archived, kept: each element's or stretch's bytes, with the reason.

One JSON object a line, under gzip. A body that is UTF-8 stands as text in `body`, any
other as base64 in `body_base64`; one of the two is always there. An element that a database
gave as a row says so in `shape`; of a delivery there is no such member.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from archiver import clock
from archiver.block import Reason, Rejection
from archiver.errors import IntegrityError
from archiver.ledger.entry import ListedObject

LARGEST_FILE_BYTES: Final = 64 << 20  # of bodies, before compression


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """A rejection as it lies in the archive.

    Attributes:
        commit: Sequence of the commit that quarantined it; with the ordinal, its name.
        rejection: As it was rejected. Its `input` says nothing here: see `input_name`.
        input_name: Which input it came from.
        source: Configured name of the source.
    """

    commit: int
    rejection: Rejection
    input_name: str
    source: str

    @property
    def name(self) -> str:
        """`<commit>:<ordinal>`, as commands take it."""
        return f"{self.commit}:{self.rejection.ordinal}"


def encode(rejections: Sequence[Rejection], inputs: Sequence[str], source: str) -> bytes:
    """Return the bytes of a quarantine file.

    Args:
        rejections: In any order; they are written by ordinal.
        inputs: Names of the batch's inputs.
        source: Configured name of the source.
    """
    lines = []
    for one in sorted(rejections, key=lambda rejection: rejection.ordinal):
        tree: dict[str, Any] = {
            "ordinal": one.ordinal,
            "reason": one.reason,
            "detail": one.detail.encode(errors="backslashreplace").decode(),
            "source": source,
            "stream": one.stream,
            "input": inputs[one.input],
            "offset": one.offset,
            "received_at": clock.to_text(one.received_at),
            "dataset": one.dataset,
            "workspace_id": one.workspace_id,
            "event_id": one.event_id,
        }
        if one.shape != "delivery":
            tree["shape"] = one.shape
        try:
            tree["body"] = one.body.decode()
        except UnicodeDecodeError:
            tree["body_base64"] = base64.b64encode(one.body).decode()
        lines.append(json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n")
    return gzip.compress("".join(lines).encode(), 6, mtime=0)


def decode(content: bytes, listed: ListedObject, commit: int) -> Iterator[QuarantineEntry]:
    """Yield the entries of a quarantine file.

    Raises:
        IntegrityError: It is no quarantine file.
    """
    try:
        for line in gzip.decompress(content).decode().split("\n")[:-1]:
            tree = json.loads(line)
            if "body" in tree:
                body = tree["body"].encode()
            else:
                body = base64.b64decode(tree["body_base64"], validate=True)
            yield QuarantineEntry(
                commit=commit,
                rejection=Rejection(
                    ordinal=tree["ordinal"],
                    reason=cast(Reason, tree["reason"]),
                    detail=tree["detail"],
                    body=body,
                    input=0,
                    offset=tree["offset"],
                    received_at=clock.from_text(tree["received_at"]),
                    stream=tree["stream"],
                    dataset=tree["dataset"],
                    workspace_id=tree["workspace_id"],
                    event_id=tree["event_id"],
                    shape="row" if tree.get("shape") == "row" else "delivery",
                ),
                input_name=tree["input"],
                source=tree["source"],
            )
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise IntegrityError(f"{listed.key}: expected a quarantine file: {error}"[:400]) from error
