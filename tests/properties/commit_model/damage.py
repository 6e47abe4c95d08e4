"""What must never be: damage in a state, and a state from which the archive does not recover."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from .rules import Rule
from .state import (
    NO_FAULTS,
    Entry,
    Job,
    Ledger,
    Process,
    State,
    archived,
    committed,
    cursor,
    ever_archived,
    live,
    oldest_readable,
    reached,
    reached_by_kept,
)
from .world import steps_of

_MOST_STEPS = 100


def damage(state: State) -> str | None:
    """Return what is wrong with `state`, in words that name the kind, or None."""
    ledger = state.ledger
    if not reached_by_kept(ledger, oldest_readable(ledger)) <= state.objects:
        if not reached(ledger) <= state.objects:
            return "the newest snapshot names an object that is missing or another"
        return "a kept snapshot names an object that is missing"
    found = _damage_of_ledger(ledger)
    if found:
        return found
    counted = {each for e in ledger for each in e.deliveries}
    if not state.acknowledged <= counted:
        return "a delivery is acknowledged that no commit counts"
    ends = {
        "failed": "a run fails over an object that bears its own name",
        "in vain": "livelock: every new attempt meets the same commit again",
        "misled": "a reader of a kept snapshot finds a file missing",
    }
    return next((ends[each.at] for each in state.processes if each.at in ends), None)


@lru_cache(1 << 17)
def _damage_of_ledger(ledger: Ledger) -> str | None:
    return next(_damages_of_ledger(ledger), None)


def _damages_of_ledger(ledger: Ledger) -> Iterator[str]:
    once = {
        "an identity is archived twice": archived(ledger),
        "a batch is committed twice": [(each.batch, each.deliveries) for each in ledger],
        "a delivery is counted by two commits": [name for each in ledger for name in each.deliveries],
        "a quarantined entry is counted as moved twice": [name for each in ledger for name in each.moved],
    }
    yield from (kind for kind, values in once.items() if len({*values}) != len(values))
    told: dict[str, int] = {}
    for row, member in (each for e in ledger for each in e.supplements):
        if told.setdefault(row, member) != member:
            yield "two contradicting supplements are merged in silence"
    for number, each in enumerate(ledger):
        yield from _damages_of_entry(ledger[:number], each)


def _damages_of_entry(before: Ledger, each: Entry) -> Iterator[str]:
    if not {*each.duplicates} <= ever_archived(before):
        yield "a row is counted as duplicate of something never archived"
    if each.cursor and each.cursor[0] != cursor(before):
        yield "the cursor jumps: `before` is not the last `after`"
    if each.operation == "expire" and any(e.holds for e in before):
        yield "rows are expired under a legal hold"
    if any(key not in live(before) for key in each.removed):
        yield "a commit removes a file that is not live"
    removed = [row for key in each.removed for row in live(before).get(key, ())]
    if each.operation == "compact" and sorted(each.rows()) != sorted(removed):
        yield "a compaction changes the rows"
    if committed(before) & {*each.fences}:
        yield "a fence declares a committed attempt dead"
    if oldest_readable((*before, each)) < oldest_readable(before):
        yield "`oldest_readable` falls below snapshots whose files were deleted"


def is_quiet(state: State) -> bool:
    """Whether nobody is in the middle of something."""
    return all(each.is_over or each.at == "start" for each in state.processes)


def stuck(state: State, rules: frozenset[Rule]) -> str | None:
    """Return what is still wrong after everybody stopped, somebody ran once more, and one `collect`.

    This is the progress that the protocol promises: from wherever the processes were
    left, undisturbed runs end with every delivery archived or counted, and with nothing
    in the bucket that no snapshot reaches. PUTs that are still in flight are taken as lost.
    """
    jobs = {each.job for each in state.processes}
    wanted = frozenset(delivery for job in jobs for delivery in job.deliveries)
    sees = max((job.cursor_sees or 0 for job in jobs), default=0)
    state = state._replace(flying=frozenset())
    for number, job in enumerate(_recovery(state, jobs, sees)):
        state, found = _undisturbed(state, Process(f"Z{number}", job), rules)
        if found:
            return found
    state, found = _undisturbed(state, Process("Z", Job("collect")), rules)
    if found:
        return found
    if not wanted <= state.acknowledged:
        return "no progress: one more run leaves a delivery unacknowledged"
    if cursor(state.ledger) < sees:
        return "no progress: one more run leaves rows of the source unread"
    if state.objects != reached(state.ledger):
        return "no progress: one more collect leaves an object that nothing reaches"
    return None


def _recovery(state: State, jobs: set[Job], sees: int) -> Iterator[Job]:
    """Yield the jobs of the next runs: adopt what is frozen, freeze what is loose."""
    claimed = {delivery: each.owner for each in state.claims for delivery in each.deliveries}
    done = {*state.acknowledged}
    by_deliveries = sorted((job for job in jobs if job.deliveries), key=lambda job: job.deliveries)
    for job in by_deliveries:
        if done & {*job.deliveries}:
            continue
        owner = claimed.get(job.deliveries[0], "")
        done |= {*job.deliveries}
        yield Job(
            "append",
            inputs=job.inputs,
            deliveries=job.deliveries,
            rows=job.rows,
            supplements=job.supplements,
            bad_line=job.bad_line,
            adopts=owner,
        )
    if sees > cursor(state.ledger):
        yield Job("append", cursor_sees=sees)


def _undisturbed(state: State, process: Process, rules: frozenset[Rule]) -> tuple[State, str | None]:
    state = state._replace(processes=(process,))
    for _ in range(_MOST_STEPS):
        step = next(steps_of(state, state.processes[0], rules, NO_FAULTS), None)
        if step is None:
            return state, None
        state = step[1]
        found = damage(state)
        if found:
            return state, found
    return state, "no progress: an undisturbed run never ends"
