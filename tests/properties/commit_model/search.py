"""Breadth-first over all interleavings, so that the first way into a kind of damage is a shortest one."""

from __future__ import annotations

from dataclasses import dataclass, field

from .damage import damage, is_quiet, stuck
from .rules import EVERY_RULE, Rule
from .scenarios import Scenario
from .state import State
from .world import steps

UNDISTURBED = "(all is quiet: the next run and a collect, undisturbed)"


@dataclass
class Found:
    """What a search came upon.

    Attributes:
        states: How many states it looked at.
        is_complete: Whether it looked at all there are.
        damages: Kind of damage -> the steps of a shortest way into it.
    """

    states: int = 0
    is_complete: bool = False
    damages: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        ways = (f"{kind}:\n  " + "\n  ".join(way) for kind, way in self.damages.items())
        return "\n".join((f"{self.states} states", *ways))


def search(
    scenario: Scenario,
    rules: frozenset[Rule] = EVERY_RULE,
    *,
    stop_at_damage: bool = False,
    most_states: int = 3_000_000,
) -> Found:
    """Search `scenario` under `rules`.

    Args:
        scenario: Who is there, and what may go wrong.
        rules: The rules in force; the others are broken as `run` and `others` say.
        stop_at_damage: Return when the first is found, else find every kind.
        most_states: Give up beyond; the result is then not complete.
    """
    start = scenario.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    frontier, found = [start], Found()
    seen_quiet: dict[tuple[object, ...], str | None] = {}
    while frontier:
        reached = []
        for state in frontier:
            for name, after in steps(state, rules, scenario.faults):
                if after in came_from:
                    continue
                came_from[after] = (state, name)
                kind = damage(after)
                if kind is None and is_quiet(after):
                    what_lasts = (after.ledger, after.objects, after.claims, after.acknowledged)
                    if what_lasts not in seen_quiet:
                        seen_quiet[what_lasts] = stuck(after, rules)
                    kind = seen_quiet[what_lasts]
                if kind is None:
                    reached.append(after)
                    continue
                if kind not in found.damages:
                    lasting = damage(after) is None
                    found.damages[kind] = _way(came_from, after) + [UNDISTURBED] * lasting
                if stop_at_damage:
                    found.states = len(came_from)
                    return found
        found.states = len(came_from)
        if found.states > most_states:
            return found
        frontier = reached
    found.is_complete = True
    return found


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    way = []
    while (link := came_from[state]) is not None:
        state, name = link
        way.append(name)
    return way[::-1]
