"""Which events a destination wants."""

from __future__ import annotations

import re
from typing import Final

from archiver.forward.base import Outgoing
from archiver.forward.settings import Destination

_MOST_REMEMBERED: Final = 65_536


def matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches any of these patterns, whole; `*` stands for any text, all else for itself."""
    parts = (".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
    return re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL)


class Wanted:
    """The filters of one destination: event types, workspaces, actions.

    An alert has no action: `actions` leaves alerts out, unless `event_types` names them.
    """

    def __init__(
        self,
        *,
        event_types: tuple[str, ...] = (),
        workspaces: tuple[str, ...] = (),
        actions: tuple[str, ...] = (),
        exclude_actions: tuple[str, ...] = (),
    ) -> None:
        self._types = frozenset(event_types)
        self._workspaces = frozenset(workspaces)
        self._actions = matcher(actions) if actions else None
        self._excluded = matcher(exclude_actions) if exclude_actions else None
        self._known: dict[str, bool] = {}
        self.is_everything = not (event_types or workspaces or actions or exclude_actions)

    @classmethod
    def of(cls, destination: Destination) -> Wanted:
        return cls(
            event_types=destination.event_types,
            workspaces=destination.workspaces,
            actions=destination.actions,
            exclude_actions=destination.exclude_actions,
        )

    def __call__(self, event: Outgoing) -> bool:
        if self._types and event.event_type not in self._types:
            return False
        if self._workspaces and event.workspace not in self._workspaces:
            return False
        if event.dataset == "alerts":
            return self._actions is None or event.event_type in self._types
        known = self._known.get(event.action)
        return self._decided(event.action) if known is None else known

    def _decided(self, action: str) -> bool:
        wanted = self._actions is None or self._actions.fullmatch(action) is not None
        if wanted and self._excluded is not None:
            wanted = self._excluded.fullmatch(action) is None
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[action] = wanted
        return wanted
