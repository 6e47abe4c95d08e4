"""What must never be: damage in a state, and a state from which the archive does not recover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from .rules import Rule
from .state import (
    NO_FAULTS,
    Job,
    Ledger,
    Process,
    State,
    archived,
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
    if _repeats(archived(ledger)):
        yield "an identity is archived twice"
    if _repeats([(each.batch, each.deliveries) for each in ledger if each.operation == "append"]):
        yield "a batch is committed twice"
    if _repeats([delivery for each in ledger for delivery in each.deliveries]):
        yield "a delivery is counted by two commits"
    if _repeats([moved for each in ledger for moved in each.moved]):
        yield "a quarantined entry is counted as moved twice"
    told: dict[str, int] = {}
    for row, member in (each for e in ledger for each in e.supplements):
        if told.setdefault(row, member) != member:
            yield "two contradicting supplements are merged in silence"
    attempts = {each.attempt: n for n, each in enumerate(ledger)}
    for n, each in enumerate(ledger):
        before = ledger[:n]
        if not {*each.duplicates} <= ever_archived(before):
            yield "a row is counted as duplicate of something never archived"
        if each.cursor and each.cursor[0] != cursor(before):
            yield "the cursor jumps: `before` is not the last `after`"
        if each.operation == "expire" and any(e.holds for e in before):
            yield "rows are expired under a legal hold"
        if any(key not in live(before) for key in each.removed):
            yield "a commit removes a file that is not live"
        if each.operation == "compact":
            removed = [row for key in each.removed for row in live(before).get(key, ())]
            if sorted(each.rows()) != sorted(removed):
                yield "a compaction changes the rows"
        if any(attempts.get(fence, n) < n for fence in each.fences):
            yield "a fence declares a committed attempt dead"
        if oldest_readable(ledger[: n + 1]) < oldest_readable(before):
            yield "`oldest_readable` falls below snapshots whose files were deleted"


def _repeats(values: Sequence[object]) -> bool:
    return len({*values}) != len(values)


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
