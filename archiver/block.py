"""What travels between reading and validating: bodies out of a source, rejections out of anywhere.

A *body* is the text of one JSON element, byte for byte as it was delivered. Elements
are numbered through the whole batch in the order they are read; since a batch's inputs
are frozen, every attempt gives an element the same *ordinal*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import pyarrow as pa

from archiver.database.fetched import Layout

Reason = Literal[
    # of the reader: a stretch of bytes that holds no element
    "torn_frame",
    "damaged_frame",
    "damaged_file",
    "expansion_limit",
    "too_long",
    # of the parser
    "not_json",
    "not_utf8",
    "duplicate_member",
    "not_a_number",
    "too_deep",
    "unjudgeable",
    # of the judge
    "unknown_event_type",
    "invalid",
    # of the columns and partitions
    "time_out_of_range",
    "identity_not_storable",
    "workspace_not_storable",
    "foreign_workspace",
    # of the identity
    "conflict",
]
REASONS: tuple[str, ...] = get_args(Reason)

# What a body is by where it came from: a delivery tells its own form; that something is a row of a
# database, only its source knows.
Shape = Literal["delivery", "row"]


@dataclass(slots=True)
class Rejection:
    """An element, or a stretch of bytes, that is not archived but kept in quarantine.

    Attributes:
        ordinal: Its number in the batch.
        reason: One of `REASONS`; stable, for programs.
        detail: What exactly is wrong, for people. May quote the body, so it is data.
        body: The bytes as they came, all of them.
        input: Which of the batch's inputs it came from.
        offset: Where in that input it begins, in bytes (after decompression).
        received_at: Microseconds since 1970, UTC.
        stream: The configured sender, or None.
        dataset, workspace_id, event_id: As far as they could be read.
        shape: What it came as; whoever judges it again must judge it as that.
    """

    ordinal: int
    reason: Reason
    detail: str
    body: bytes
    input: int
    offset: int
    received_at: int
    stream: str | None = None
    dataset: str | None = None
    workspace_id: str | None = None
    event_id: str | None = None
    shape: Shape = "delivery"


@dataclass(slots=True)
class Block:
    """Some megabytes of consecutive elements of one input; parallel lists, one entry an element.

    Attributes:
        input: Which of the batch's inputs they came from.
        bodies: The elements' bytes; never empty, never only white space.
        ordinals: Their numbers in the batch, ascending.
        offsets: Where each begins in the input, in bytes (after decompression).
        received_at: When each was received, in microseconds since 1970, UTC.
        streams: The configured sender of each, or None.
        rejections: Stretches that the reader itself could not make out.
        input_bytes: How many bytes of the input (as it lies on disk) this block used up; for progress.
        shape: What all of them are. `archived`: bodies that were found valid before and are read
            back, deliveries and rows among each other; one without a member `event_type` is a row.
    """

    input: int
    bodies: list[bytes] = field(default_factory=list)
    ordinals: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    received_at: list[int] = field(default_factory=list)
    streams: list[str | None] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    input_bytes: int = 0
    shape: Shape | Literal["archived"] = "delivery"


@dataclass(slots=True)
class RowBlock:
    """Some megabytes of consecutive rows of a database, as they were fetched.

    Attributes:
        input: Which of the batch's inputs they came from.
        rows: With the columns that `layout` names; others are ignored.
        layout: The members of each row's body, in their order.
        first_ordinal: The first row's number in the batch; the others follow.
        received_at: When they were read, in microseconds since 1970, UTC.
        input_bytes: About how many bytes they are; for progress.
    """

    input: int
    rows: pa.RecordBatch
    layout: Layout
    first_ordinal: int
    received_at: int
    input_bytes: int = 0
