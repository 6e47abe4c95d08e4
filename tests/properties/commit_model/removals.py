"""What each rule is there for: the scenario and the damage that its removal alone leads to.

Rules whose removal alone is harmless stand in `REDUNDANT`, each with its reason and with
the other rule that it backs: without both, the search finds
damage that neither removal leads to alone.
"""

from __future__ import annotations

from typing import NamedTuple

from .rules import EVERY_RULE, Rule
from .scenarios import SCENARIOS
from .search import Found, search

_MISSING = "the newest snapshot names an object that is missing or another"
_KEPT_MISSING = "a kept snapshot names an object that is missing"
_TWO_COMMITS = "a delivery is counted by two commits"
_NOT_COUNTED = "a delivery is acknowledged that no commit counts"
_BATCH_TWICE = "a batch is committed twice"
_IDENTITY_TWICE = "an identity is archived twice"
_OWN_NAME = "a run fails over an object that bears its own name"
_MERGED = "two contradicting supplements are merged in silence"

_MOST_STATES = 300_000


class Expected(NamedTuple):
    """Where the removal shows, and as what."""

    scenario: str
    damage: str


RED: dict[Rule, Expected] = {
    Rule.FREEZE_ID: Expected("same file twice", _NOT_COUNTED),
    Rule.FREEZE_ID_KEPT: Expected("adopted alive", _TWO_COMMITS),
    Rule.INPUTS_KEPT: Expected("adopted alive", _TWO_COMMITS),
    Rule.BASE_KEPT: Expected("slow run", _BATCH_TWICE),
    Rule.SEEN_READ_AGAIN: Expected(
        "shared identity", "livelock: every new attempt meets the same commit again"
    ),
    Rule.IDENTIFY_AGAINST_SEEN: Expected("shared identity", _IDENTITY_TWICE),
    Rule.ATTEMPT_IN_NAMES: Expected("collect", _MISSING),
    Rule.ATTEMPT_IN_LIST_NAMES: Expected("long lists", _MISSING),
    Rule.NO_NAME_TWICE: Expected("shared identity", _OWN_NAME),
    Rule.OUR_OBJECT_IS_SUCCESS: Expected("collect", _OWN_NAME),
    Rule.RUNS_DELETE_NOTHING: Expected("one run", _MISSING),
    Rule.ACKNOWLEDGE_ONLY: Expected("slow run", _BATCH_TWICE),
    Rule.STOP_WHEN_FENCED: Expected("collect", _MISSING),
    Rule.CURSOR_CHECK: Expected("cursor, two hosts", "the cursor jumps: `before` is not the last `after`"),
    Rule.REMOVED_IS_LIVE: Expected("compactions", _IDENTITY_TWICE),
    Rule.HOLD_CHECK: Expected("hold", "rows are expired under a legal hold"),
    Rule.REQUEUE_CHECK: Expected("requeue", "a quarantined entry is counted as moved twice"),
    Rule.NEW_ATTEMPT_ON_IDENTITY: Expected("shared identity", _IDENTITY_TWICE),
    Rule.SUPPLEMENT_IS_IDENTITY: Expected("supplements", _MERGED),
    Rule.AIM_BEHIND_VALIDATED: Expected("compactions", _IDENTITY_TWICE),
    Rule.CONDITIONAL_CREATE: Expected("shared identity", _NOT_COUNTED),
    # step 3 finds a run's own batch in that very slot, but `collect` would fence again and again
    Rule.OUR_COMMIT_IS_SUCCESS: Expected("collect", _BATCH_TWICE),
    Rule.VALIDATE_AFTER_OTHERS: Expected("shared identity", _IDENTITY_TWICE),
    Rule.ABSENT_IS_UNKNOWN: Expected("one delivery, two runs", _TWO_COMMITS),
    Rule.ACKNOWLEDGE_AFTER_COMMIT: Expected("slow run", _NOT_COUNTED),
    Rule.SYNC_WHAT_WAS_FOUND: Expected("power failure", _NOT_COUNTED),
    Rule.FENCE_UNKNOWN: Expected("collect", _MISSING),
    # loses nothing as long as the deletion reads the head again; but the ledger then contradicts itself
    Rule.FENCE_DROPS_COMMITTED: Expected("collect", "a fence declares a committed attempt dead"),
    Rule.DELETE_READS_HEAD_AGAIN: Expected("collect", _MISSING),
    Rule.DELETE_SPARES_KEPT: Expected("append, compaction, collect", _KEPT_MISSING),
    Rule.OLDEST_READABLE_FIRST: Expected("old reader", _KEPT_MISSING),
    Rule.OLDEST_READABLE_RISES: Expected(
        "two collects, compaction", "`oldest_readable` falls below snapshots whose files were deleted"
    ),
}


class Backing(NamedTuple):
    """A rule that is harmless to remove alone.

    Attributes:
        partner: The rule without which it is needed.
        reason: Why it is harmless alone, and why it stays.
        scenario: Where the removal of both shows.
        damage: As what; neither removal alone leads there in this scenario.
    """

    partner: Rule
    reason: str
    scenario: str
    damage: str


REDUNDANT: dict[Rule, Backing] = {
    Rule.CURSOR_AS_OF_BASE: Backing(
        Rule.CURSOR_AT_THE_HEAD,
        "A stale cursor is noticed when it is held against the state at the head. It saves a wasted batch.",
        "cursor, two hosts",
        "the cursor jumps: `before` is not the last `after`",
    ),
    Rule.CURSOR_AT_THE_HEAD: Backing(
        Rule.CURSOR_AS_OF_BASE,
        "With the cursor as of `base`, the moves after `base` are all there are. The state is safer.",
        "cursor, two hosts",
        "the cursor jumps: `before` is not the last `after`",
    ),
    Rule.READ_ON_412: Backing(
        Rule.NO_NAME_TWICE,
        "Where no name is used twice, only our own bytes can be there. Reading guards the names.",
        "shared identity",
        _MISSING,
    ),
}


def without(*rules: Rule, scenario: str) -> Found:
    """Search `scenario` with `rules` removed, up to the first damage.

    Without a rule there may be no end of states, so the search is cut where none is found.
    """
    return search(SCENARIOS[scenario], EVERY_RULE - {*rules}, stop_at_damage=True, most_states=_MOST_STATES)
