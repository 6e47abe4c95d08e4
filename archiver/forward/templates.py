"""Names that depend on the event: `audit_{workspace}` as an index, `{dataset}` as a source type."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

from archiver.errors import ConfigError
from archiver.forward.base import Outgoing
from archiver.forward.settings import Destination

MOST_VALUE_CHARACTERS: Final = 100
NOTHING: Final = "none"
_MOST_CHARACTERS: Final = 500
_DIGEST_CHARACTERS: Final = 16
_PIECE: Final = re.compile(r"\{([^{}]*)\}|([^{}]+)|[{}]")


def _action(event: Outgoing) -> str:
    # An alert has no action of its own.
    return event.action or (event.event_type if event.dataset == "alerts" else "")


PLACEHOLDERS: Final[dict[str, Callable[[Outgoing], str]]] = {
    "workspace": lambda event: event.workspace,
    "dataset": lambda event: event.dataset,
    "event_type": lambda event: event.event_type,
    "action": _action,
    "action_group": lambda event: _action(event).partition(".")[0],
}


class Template:
    """A configured text with `{workspace}`, `{dataset}`, `{event_type}`, `{action}`, `{action_group}` in it.

    `{action_group}` is the action's part before its first dot. For an alert, which has no
    action, its event type stands for one: `alert.triggered`, and so `alert`. What is empty all
    the same is written `none`.

    A value is one printable line: other characters are written `_`. One longer than 100 characters
    ends with the beginning of its SHA-256, so that two long ones are not taken for the same.
    Two values that differ in such characters alone are.

    Args:
        text: As it was configured.
        where: Whose it is, for errors: `[destinations.siem] index`.

    Attributes:
        text: As it was configured.
        names: The placeholders in it; empty: it is the same for each event.

    Raises:
        ConfigError: A placeholder is not known, or a brace stands alone.
    """

    __slots__ = ("_pieces", "names", "text")

    def __init__(self, text: str, where: str) -> None:
        if not text or not text.isprintable() or len(text) > _MOST_CHARACTERS:
            raise ConfigError(f"{where} must be one line of 1 to {_MOST_CHARACTERS} printable characters")
        self.text = text
        self._pieces: list[str | Callable[[Outgoing], str]] = []
        names = set()
        for found in _PIECE.finditer(text):
            name, plain = found.groups()
            if plain is not None:
                self._pieces.append(plain)
            elif name is not None and name in PLACEHOLDERS:
                self._pieces.append(PLACEHOLDERS[name])
                names.add(name)
            else:
                known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
                raise ConfigError(
                    f"{where} = {text!r:.80}: {found[0]:.40} means nothing", hint=f"known: {known}"
                )
        self.names = frozenset(names)

    def render(self, event: Outgoing) -> str:
        """Return the text for this event; never empty, one line, printable."""
        return "".join(piece if isinstance(piece, str) else _value(piece(event)) for piece in self._pieces)


def template_of(destination: Destination, key: str) -> Template | None:
    """Return the destination's option `key` as a template; None if it is not configured.

    Raises:
        ConfigError: As `Template`.
    """
    text = destination.options.get(key)
    return None if text is None else Template(text, f"[destinations.{destination.name}] {key}")


def _value(value: str) -> str:
    if not value:
        return NOTHING
    shown = value
    if not value.isprintable():
        shown = "".join(char if char.isprintable() else "_" for char in value)
    if len(value) > MOST_VALUE_CHARACTERS:
        digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
        shown = f"{shown[: MOST_VALUE_CHARACTERS - _DIGEST_CHARACTERS - 1]}-{digest}"
    return shown
