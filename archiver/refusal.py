"""Why a body is not archived: refusals while it is judged, and the rejection that is kept of it."""

from __future__ import annotations

import json
from typing import Any, Final

from archiver.block import Block, Reason, Rejection
from archiver.event import DATASET_OF_EVENT_TYPE
from archiver.jsontext import (
    DEEPEST,
    DuplicateMemberError,
    NotANumberError,
    is_too_deep,
    is_unicode,
    parse_strictly,
)
from archiver.judge import bounded, excerpt

# Members that say which event it is; if one of them stands twice, there is no telling.
_TELLING: Final = frozenset({"event_type", "workspace_id", "data", "id", "alert_id"})


class Refused(Exception):  # noqa: N818 - control flow, never an error
    """A body is not valid. `tree` is what it was read as, if it could be read."""

    def __init__(self, reason: Reason, detail: str, tree: Any = None) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.detail = bounded(detail)
        self.tree = tree


def parse(body: bytes) -> tuple[str, Any]:
    """Return the text of a body and what it says.

    Raises:
        Refused: It is no JSON that every reader reads alike.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Refused("not_utf8", f"body: {error.reason} at byte {error.start}") from None
    if is_too_deep(text):
        raise Refused("too_deep", f"body: more than {DEEPEST} levels")
    try:
        return text, parse_strictly(text)
    except DuplicateMemberError as error:
        tree = None if error.name in _TELLING else _parse_loosely(text)
        raise Refused("duplicate_member", f"body: two members {excerpt(error.name)}", tree) from None
    except NotANumberError as error:
        raise Refused("not_a_number", f"body: {error} is no JSON number", _parse_loosely(text)) from None
    except json.JSONDecodeError as error:
        raise Refused("not_json", f"body: {error.msg} at character {error.pos}") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise Refused("unjudgeable", f"body: {error}") from None


def _parse_loosely(text: str) -> Any:
    """Parse what the strict parser refused, only to tell which event it would have been."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def rejection(block: Block, number: int, refused: Refused) -> Rejection:
    """Return what is kept of a body of a block that was refused."""
    tree = refused.tree if isinstance(refused.tree, dict) else {}
    event_type = _readable(tree.get("event_type"))
    is_row = block.shape == "row"
    dataset = "events" if is_row else DATASET_OF_EVENT_TYPE.get(event_type or "")
    event_data = tree if is_row else tree.get("data")
    event_id = tree.get("alert_id") if dataset == "alerts" else None
    if dataset == "events" and isinstance(event_data, dict):
        event_id = event_data.get("id")
    return Rejection(
        ordinal=block.ordinals[number],
        reason=refused.reason,
        detail=refused.detail,
        body=block.bodies[number],
        input=block.input,
        offset=block.offsets[number],
        received_at=block.received_at[number],
        stream=block.streams[number],
        dataset=dataset,
        workspace_id=_readable(tree.get("workspace_id")),
        event_id=_readable(event_id),
        shape="row" if is_row else "delivery",
    )


def _readable(value: Any) -> str | None:
    return value if isinstance(value, str) and is_unicode(value) else None
