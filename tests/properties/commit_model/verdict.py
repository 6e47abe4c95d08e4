"""Step 3 of the protocol: may this attempt commit behind this head?"""

from __future__ import annotations

from enum import Enum, auto

from .rules import Rule
from .state import Entry, Ledger, Process, cursor, live


class Verdict(Enum):
    COMMIT = auto()
    ACKNOWLEDGE = auto()
    STOP = auto()
    PLAN_AGAIN = auto()
    NEW_ATTEMPT = auto()


def judge(ledger: Ledger, run: Process, rules: frozenset[Rule]) -> Verdict:
    """Validate `run`'s entry against all that was committed, up to the head."""
    mine = run.entry
    assert mine is not None
    since = ledger[run.base :]
    if Rule.ACKNOWLEDGE_ONLY in rules and any(each.batch == mine.batch for each in since):
        return Verdict.ACKNOWLEDGE
    if Rule.STOP_WHEN_FENCED in rules and any(mine.attempt in each.fences for each in since):
        return Verdict.STOP
    if _state_differs(ledger, run, mine, rules):
        return Verdict.PLAN_AGAIN
    if any(_adds_an_identity_of(mine, each, rules) for each in ledger[run.seen :]):
        return Verdict.NEW_ATTEMPT
    return Verdict.COMMIT


def _state_differs(ledger: Ledger, run: Process, mine: Entry, rules: frozenset[Rule]) -> bool:
    """Against the state at the head, whoever changed it and when."""
    if mine.cursor is not None and Rule.CURSOR_CHECK in rules:
        if Rule.CURSOR_AT_THE_HEAD not in rules:
            return any(each.cursor for each in ledger[run.base :])
        return cursor(ledger) != mine.cursor[0]
    if Rule.REMOVED_IS_LIVE in rules and not {*mine.removed} <= live(ledger).keys():
        return True
    if Rule.HOLD_CHECK in rules and mine.operation == "expire" and any(each.holds for each in ledger):
        return True
    return Rule.REQUEUE_CHECK in rules and any({*each.moved} & {*mine.moved} for each in ledger)


def _adds_an_identity_of(mine: Entry, other: Entry, rules: frozenset[Rule]) -> bool:
    return Rule.NEW_ATTEMPT_ON_IDENTITY in rules and bool(_touched(mine, rules) & _touched(other, rules))


def _touched(one: Entry, rules: frozenset[Rule]) -> set[str]:
    if one.operation == "compact":
        return set()  # the same rows in other files: no identity is new
    supplemented = {row for row, _ in one.supplements} if Rule.SUPPLEMENT_IS_IDENTITY in rules else set()
    return {*one.rows()} | supplemented
