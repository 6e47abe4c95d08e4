"""Who else is there: `collect`, and a reader of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator

from .rules import Rule
from .run import Rules, Step, commit, read_slot
from .state import (
    Faults,
    Object,
    Process,
    State,
    changed,
    committed,
    entry,
    fenced,
    live,
    oldest_readable,
    reached,
    reached_by_kept,
)


def collect_steps(state: State, run: Process, rules: Rules, faults: Faults) -> Iterator[Step]:
    """Yield what `collect` may do next: read the head, list, fence, read the head again, delete."""
    if run.at == "start":
        yield f"reads the head ({state.head()})", state.moved_on(run._replace(at="list", base=state.head()))
    elif run.at == "list":
        yield _list(state, run, rules)
    elif run.at == "validate":
        yield _validate(state, run, rules)
    elif run.at == "commit":
        yield from commit(state, run, rules, faults)
    elif run.at == "unknown":
        yield from read_slot(state, run, rules)
    elif run.at == "sync":
        yield "fsyncs the ledger folder", state.moved_on(run._replace(at="done"), durable=state.head())
    elif run.at == "done":
        yield _read_head_again(state, run, rules)
    elif run.at == "delete":
        names = sorted(str(key) for key, _ in run.candidates)
        after = run._replace(at="stopped", candidates=frozenset())
        yield f"deletes {names}", state.moved_on(after, objects=state.objects - run.candidates)


def _list(state: State, run: Process, rules: Rules) -> Step:
    seen = state.ledger[: run.base]
    candidates = state.objects - reached(seen)
    attempts = {key.attempt for key, _ in candidates if key.attempt}
    unknown = sorted(attempts - committed(seen) - fenced(seen)) if Rule.FENCE_UNKNOWN in rules else []
    # what commits of the past added, compaction or expiry removed; older snapshots still reach it
    removed = {each for e in seen for each in e.added} & candidates
    oldest = run.base if removed and Rule.OLDEST_READABLE_FIRST in rules else None
    run = run._replace(candidates=candidates, at="done")
    if unknown or oldest is not None:
        fence = entry(
            operation="fence",
            batch=f"fence~{run.name}",
            attempt=run.name,
            fences=tuple(unknown),
            oldest_readable=oldest,
        )
        run = run._replace(entry=fence, at="validate")
    return f"lists {_names(candidates)}, unknown attempts {unknown}", state.moved_on(run)


def _validate(state: State, run: Process, rules: Rules) -> Step:
    fence = run.entry
    assert fence is not None
    ledger = state.ledger
    if Rule.FENCE_DROPS_COMMITTED in rules:
        fence = changed(fence, fences=tuple(each for each in fence.fences if each not in committed(ledger)))
    if Rule.OLDEST_READABLE_RISES in rules and fence.oldest_readable is not None:
        fence = changed(fence, oldest_readable=max(fence.oldest_readable, oldest_readable(ledger)))
    what = f"validates up to {len(ledger)}, will fence {list(fence.fences)}"
    if fence.oldest_readable is not None:
        what += f", oldest readable {fence.oldest_readable}"
    if not fence.fences and fence.oldest_readable is None:
        return f"{what}: nothing to commit", state.moved_on(run._replace(at="done"))
    return what, state.moved_on(run._replace(at="commit", slot=len(ledger), entry=fence))


def _read_head_again(state: State, run: Process, rules: Rules) -> Step:
    ledger = state.ledger
    doomed = run.candidates
    if Rule.DELETE_READS_HEAD_AGAIN in rules:
        oldest = oldest_readable(ledger)
        if Rule.OLDEST_READABLE_FIRST not in rules:
            oldest = max(oldest, run.base)  # it has its own idea, and told nobody
        kept = reached_by_kept(ledger, oldest)
        doomed -= kept if Rule.DELETE_SPARES_KEPT in rules else reached(ledger)
    durable = state.head() if Rule.SYNC_WHAT_WAS_FOUND in rules else state.durable
    after = run._replace(candidates=doomed, at="delete" if doomed else "stopped")
    return f"reads the head again ({state.head()})", state.moved_on(after, durable=durable)


def _names(objects: frozenset[Object]) -> list[str]:
    return sorted(str(key) for key, _ in objects)


def reader_steps(state: State, run: Process) -> Iterator[Step]:
    """Yield what a reader may do next: open the newest snapshot, and later read its files."""
    if run.at == "start":
        after = run._replace(at="read", base=state.head(), planned=tuple(live(state.ledger)))
        yield f"opens snapshot {state.head()}", state.moved_on(after)
    elif run.at == "read":
        if all(state.content(key) is not None for key in run.planned):
            yield "reads its files", state.moved_on(run._replace(at="stopped"))
        elif oldest_readable(state.ledger) > run.base:
            yield "is told that its snapshot is not kept", state.moved_on(run._replace(at="stopped"))
        else:
            yield "finds a file missing", state.moved_on(run._replace(at="misled"))
