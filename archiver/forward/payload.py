"""What an event looks like at a destination: as delivered, ECS or OCSF, less what must not leave.

As delivered is the body byte for byte, but for line breaks between its tokens, which become spaces.
If members are dropped or hashed, the body is parsed, altered and written again: every value that
stays is what it was, but white space and escapes are not. That happens first; no form, and no
original text within a form, ever sees more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from archiver.event import Form
from archiver.forward.actions import Actions
from archiver.forward.base import Outgoing, UnsendableError
from archiver.forward.ecs import ecs_of
from archiver.forward.exact import Tree, parse, write
from archiver.forward.members import Members
from archiver.forward.ocsf import ocsf_of
from archiver.forward.parts import form_of_tree
from archiver.forward.settings import Destination

_Former = Callable[[Outgoing, Form, Tree, bytes, Actions], Tree]

_LINE_FEED, _CARRIAGE_RETURN = b"\n\r"
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


class Payloads:
    """Makes the payloads of one destination. For one thread.

    Raises:
        ConfigError: A path of `drop` or `hash`, its key, or the file of actions is wrong.
    """

    def __init__(self, destination: Destination, environment: Mapping[str, str] | None = None) -> None:
        self._members = Members(destination, environment)
        self._actions = Actions([])
        if destination.form != "as_delivered":
            self._actions = Actions.load(destination.ocsf_actions)
        made: dict[str, Callable[[Outgoing], bytes]] = {
            "as_delivered": _as_delivered if self._members.is_nothing else self._altered,
            "ecs": self._ecs,
            "ocsf": self._ocsf,
        }
        self._made = made[destination.form]

    def of(self, event: Outgoing) -> bytes:
        """Return the event as one line of JSON, without a line break at its end.

        Raises:
            UnsendableError: Its body cannot be read.
        """
        try:
            return self._made(event)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # A valid body leads here only by a fault of ours: one event is set apart, none is held up.
            raise UnsendableError(f"its form cannot be made: {type(error).__name__}") from error

    def _altered(self, event: Outgoing) -> bytes:
        return write(self._members.alter(parse(event.body)))

    def _ecs(self, event: Outgoing) -> bytes:
        return self._formed(event, ecs_of)

    def _ocsf(self, event: Outgoing) -> bytes:
        return self._formed(event, ocsf_of)

    def _formed(self, event: Outgoing, form_it: _Former) -> bytes:
        tree, original = parse(event.body), event.body
        form = form_of_tree(tree)
        if not self._members.is_nothing:
            tree = self._members.alter(tree)
            original = write(tree)
        return write(form_it(event, form, tree, original, self._actions))


def _as_delivered(event: Outgoing) -> bytes:
    body = event.body
    if _LINE_FEED in body or _CARRIAGE_RETURN in body:
        return body.translate(_LINE_BREAKS)  # within a string there is none
    return body
