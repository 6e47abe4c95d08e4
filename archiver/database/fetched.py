"""What comes out of a database: Arrow batches of few types, and which member each column is.

Every driver has types of its own, and some of them lie at the edges (see docs/decisions/0024).
So each column is asked for as one of these kinds, and from here on nobody needs to know which
database it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "number", "boolean", "instant", "json", "json_text"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One member of a row's body, and where in a batch it lies.

    Attributes:
        member: Its name in the body: an event's flat name, or any other.
        kind: What its column holds. `text`: strings. `number`: integers, or strings of digits as
            the database writes them; what is no JSON number (NaN) becomes a JSON string.
            `boolean`: booleans. `instant`: timestamp[us, UTC], null where `odd` has a value; or
            strings, from a database that has no instants. `json`: strings that the database
            guarantees to be one JSON text each, without repeated members. `json_text`: strings
            that should be JSON; any other becomes a JSON string, so that no text can add a member.
        column: Its column in the batch.
        odd: The column of strings that holds what does not fit `column`, in the database's own
            writing: an instant outside the years 1 to 9999, or infinity.
    """

    member: str
    kind: Kind
    column: str
    odd: str | None = None


Layout = tuple[Fetched, ...]
