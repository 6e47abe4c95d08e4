"""A run: freeze, identify, write, validate, commit, acknowledge; others may come between any two steps.

Appends, compactions, expiries, holds and requeues are runs; they differ in what they plan.
"""

from __future__ import annotations

from collections.abc import Iterator

from .rules import Rule
from .state import (
    Claim,
    Entry,
    Faults,
    Flying,
    Key,
    Process,
    State,
    archived,
    cursor,
    entry,
    live,
)
from .verdict import Verdict, judge

Rules = frozenset[Rule]
Step = tuple[str, State]

SOURCE_ROWS = ("x", "y", "z")  # what a cursor source holds


def steps(state: State, run: Process, rules: Rules, faults: Faults) -> Iterator[Step]:
    """Yield what `run` may do next."""
    if run.at == "start":
        yield from _freeze(state, run, rules)
    elif run.at == "base":  # only without the rule that reads cursor and base together
        yield "reads the head as base", state.moved_on(run._replace(at="identify", base=state.head()))
    elif run.at == "identify":
        yield from _identify(state, run, rules)
    elif run.at == "write":
        yield from _write(state, run, rules, faults)
    elif run.at == "validate":
        yield from _validate(state, run, rules)
    elif run.at == "acknowledge early":
        after = run._replace(at="commit")
        yield "acknowledges", state.moved_on(after, acknowledged=state.acknowledged | {*run.deliveries})
    elif run.at == "commit":
        yield from commit(state, run, rules, faults)
    elif run.at == "unknown":
        yield from read_slot(state, run, rules)
    elif run.at == "sync":
        yield "fsyncs the ledger folder", state.moved_on(_when_committed(run), durable=state.head())
    elif run.at == "done":
        yield _acknowledge(state, run)


# (1) freeze


def _freeze(state: State, run: Process, rules: Rules) -> Iterator[Step]:
    job = run.job
    if job.kind == "append" and job.adopts:
        yield from _adopt(state, run, rules)
        return
    taken = {each for claim in state.claims for each in claim.deliveries} | state.acknowledged
    if taken & {*job.deliveries}:
        return
    if job.kind in ("compact", "expire"):
        files = tuple(live(state.ledger))
        if not files or (job.kind == "expire" and any(each.holds for each in state.ledger)):
            return
        run = run._replace(planned=files)
    if job.kind == "requeue" and any({*each.moved} & {*job.moves} for each in state.ledger):
        return
    inputs = job.inputs or job.kind + "+".join(key.attempt for key in run.planned)
    if job.cursor_sees is not None:
        inputs = f"{cursor(state.ledger)}-{job.cursor_sees}"
    batch = f"{inputs}~{run.name}" if Rule.FREEZE_ID in rules else inputs
    run = run._replace(batch=batch, base=state.head(), deliveries=job.deliveries, at="identify")
    if job.cursor_sees is not None:
        run = run._replace(cursor=cursor(state.ledger))
        if run.cursor >= job.cursor_sees:
            return
        if Rule.CURSOR_AS_OF_BASE not in rules:
            yield f"reads the cursor ({run.cursor})", state.moved_on(run._replace(at="base"))
            return
    claims = state.claims
    if job.deliveries:
        claims |= {Claim(run.name, batch, run.base, job.deliveries)}
    yield f"freezes batch {batch}, base {run.base}", state.moved_on(run, claims=claims)


def _adopt(state: State, run: Process, rules: Rules) -> Iterator[Step]:
    claim = next((each for each in state.claims if each.owner == run.job.adopts), None)
    if claim is None:
        return
    owner = next((each for each in state.processes if each.name == claim.owner), None)
    if owner is not None and not owner.is_over and not run.job.adopts_the_living:
        return  # its lock is held
    batch, base, deliveries = claim.batch, claim.base, claim.deliveries
    if Rule.FREEZE_ID_KEPT not in rules:
        batch = f"{batch.partition('~')[0]}~{run.name}"
    if Rule.INPUTS_KEPT not in rules and run.job.found_since:
        deliveries = (*deliveries, *run.job.found_since)
        batch += "+" + "+".join(run.job.found_since)  # the digest covers the list
    if Rule.BASE_KEPT not in rules:
        base = state.head()
    run = run._replace(batch=batch, base=base, deliveries=deliveries, at="identify")
    yield f"adopts batch {batch} of {claim.owner}, base {base}", state.moved_on(run)


# (1) attempt


def _identify(state: State, run: Process, rules: Rules) -> Iterator[Step]:
    job, batch = run.job, run.batch
    seen = state.head() if Rule.SEEN_READ_AGAIN in rules else run.base
    view = state.ledger[: seen if Rule.IDENTIFY_AGAINST_SEEN in rules else run.base]
    attempt = f"{run.name}{run.attempts if Rule.NO_NAME_TWICE in rules else 0}"
    in_name = attempt if Rule.ATTEMPT_IN_NAMES in rules else ""
    data = Key("events", batch, in_name)
    if job.kind == "compact":
        contents = [state.content(key) for key in run.planned]
        rows = tuple(sorted(row for content in contents if content is not None for row in content))
        if None in contents:
            yield "finds a file gone, plans again", state.moved_on(run._replace(at="stopped"))
            return
        in_list_name = attempt if Rule.ATTEMPT_IN_LIST_NAMES in rules else ""
        names = tuple(map(str, run.planned))
        list_key = Key("lists", batch if in_list_name else "+".join(names), in_list_name)
        lists = ((list_key, names),) if job.long_lists else ()
        made = entry(
            operation="compact",
            batch=batch,
            attempt=attempt,
            added=((data, rows),),
            removed=run.planned,
            lists=lists,
        )
    elif job.kind == "append":
        made = _identified(run, view, attempt, data)
    else:
        made = entry(
            operation=job.kind,
            batch=batch,
            attempt=attempt,
            removed=run.planned,
            moved=job.moves,
            holds=job.kind == "hold",
        )
    objects = (*made.added, *made.lists, *made.rejected)
    run = run._replace(seen=seen, entry=made, to_write=objects, at="write" if objects else "validate")
    what = f"attempt {attempt}, seen {seen}: {made.operation}"
    if job.kind == "append":
        what += f" {list(made.rows())}, duplicates {list(made.duplicates)}"
        what += f", supplements {list(made.supplements)}" if made.supplements else ""
    yield what, state.moved_on(run)


def _identified(run: Process, view: tuple[Entry, ...], attempt: str, data: Key) -> Entry:
    job = run.job
    rows, moves = job.rows, None
    if job.cursor_sees is not None:
        rows, moves = SOURCE_ROWS[run.cursor : job.cursor_sees], (run.cursor, job.cursor_sees)
    known = archived(view)
    fresh = tuple(row for row in rows if row not in known)
    told = {row: member for each in view for row, member in each.supplements}
    # a member told before is a duplicate; another value of it is a conflict and goes to quarantine
    supplements = tuple(each for each in job.supplements if each[0] not in told)
    rejected = ((Key("quarantine", run.batch, data.attempt), run.deliveries),) if job.bad_line else ()
    return entry(
        operation="append",
        batch=run.batch,
        attempt=attempt,
        added=((data, fresh),) if fresh else (),
        duplicates=tuple(row for row in rows if row in known),
        supplements=supplements,
        rejected=rejected,
        cursor=moves,
        deliveries=run.deliveries,
    )


# (2) write


def _write(state: State, run: Process, rules: Rules, faults: Faults) -> Iterator[Step]:
    new, *rest = run.to_write
    after = run._replace(to_write=tuple(rest), at="write" if rest else "validate")
    there = state.content(new[0])
    if there is None:
        yield f"writes {new[0]}", state.with_object(new).moved_on(after)
    elif Rule.READ_ON_412 not in rules:
        yield f"gets 412 for {new[0]}, takes it for its own", state.moved_on(after)
    elif there == new[1] and Rule.OUR_OBJECT_IS_SUCCESS in rules:
        yield f"gets 412 for {new[0]}, reads its own bytes", state.moved_on(after)
    else:
        yield f"gets 412 for {new[0]}, fails", state.moved_on(run._replace(at="failed"))
    if run.name in faults.late_objects and not any(each.object for each in state.flying):
        yield f"writes {new[0]}, no reply", state._replace(flying=state.flying | {Flying(-1, object=new)})


# (3) validate


def _validate(state: State, run: Process, rules: Rules) -> Iterator[Step]:
    verdict = judge(state.ledger, run, rules)
    head = state.head()
    if verdict is Verdict.COMMIT:
        early = run.job.kind == "append" and Rule.ACKNOWLEDGE_AFTER_COMMIT not in rules
        after = run._replace(at="acknowledge early" if early else "commit", slot=head)
        yield f"validates up to {head}", state.moved_on(after)
    elif verdict is Verdict.ACKNOWLEDGE:
        yield "finds its batch committed", _found(state, run, rules)
    elif verdict is Verdict.NEW_ATTEMPT:
        # every new attempt is owed to a commit of somebody else, and each of those commits once
        in_vain = run.attempts > len(state.processes)
        after = run._replace(at="in vain" if in_vain else "identify", attempts=run.attempts + 1)
        yield "meets an identity that was added meanwhile: new attempt", state.moved_on(after)
    else:
        what = "is fenced, stops" if verdict is Verdict.STOP else "must plan again, stops"
        yield what, _given_up(state, run, rules)


def _given_up(state: State, run: Process, rules: Rules) -> State:
    state = state.moved_on(run._replace(at="stopped"))
    if Rule.RUNS_DELETE_NOTHING in rules or run.entry is None:
        return state
    own = {*run.entry.added, *run.entry.lists, *run.entry.rejected}
    return state._replace(objects=state.objects - own)


# (4) commit


def commit(state: State, run: Process, rules: Rules, faults: Faults) -> Iterator[Step]:
    """Put the entry where it was validated for; also for the fence of `collect`."""
    mine = run.entry
    assert mine is not None
    overwrite = Rule.CONDITIONAL_CREATE not in rules
    slot = run.slot if Rule.AIM_BEHIND_VALIDATED in rules else state.head()
    run = run._replace(slot=slot)
    if slot == state.head() or overwrite:
        landed = state.with_entry(slot, mine, overwrite=overwrite)
        after = run._replace(at="sync") if faults.power_failure else _when_committed(run)
        yield f"commits {mine.operation} at {slot}", landed.moved_on(after)
    else:
        yield f"gets 412 at {slot}", state.moved_on(run._replace(at="unknown"))
    if run.name in faults.lost_replies:
        lost = state._replace(flying=state.flying | {Flying(slot, entry=mine)})
        yield f"commits at {slot}, no reply", lost.moved_on(run._replace(at="unknown"))


def read_slot(state: State, run: Process, rules: Rules) -> Iterator[Step]:
    """After 412 or no reply: read the key."""
    slot = run.slot
    if slot < state.head():
        if state.ledger[slot] is run.entry and Rule.OUR_COMMIT_IS_SUCCESS in rules:
            yield f"reads its own bytes at {slot}", _found(state, run, rules)
        elif Rule.VALIDATE_AFTER_OTHERS in rules:
            yield f"reads other bytes at {slot}", state.moved_on(run._replace(at="validate"))
        else:
            after = run._replace(at="commit", slot=slot + 1)
            yield f"reads other bytes at {slot}, tries the next slot", state.moved_on(after)
        return
    if Rule.ABSENT_IS_UNKNOWN in rules:
        yield f"finds {slot} absent, puts again", state.moved_on(run._replace(at="commit"))
    else:
        claims = frozenset(each for each in state.claims if each.owner != run.name)
        after = run._replace(at="stopped")
        yield f"finds {slot} absent, gives its inputs back", state.moved_on(after, claims=claims)
    if Rule.RUNS_DELETE_NOTHING not in rules:
        yield f"finds {slot} absent, gives up and deletes its files", _given_up(state, run, rules)


def _found(state: State, run: Process, rules: Rules) -> State:
    durable = state.head() if Rule.SYNC_WHAT_WAS_FOUND in rules else state.durable
    return state.moved_on(_when_committed(run), durable=durable)


def _when_committed(run: Process) -> Process:
    still_to_do = run.deliveries or run.job.kind == "collect"
    return run._replace(at="done" if still_to_do else "stopped")


# (5) acknowledge


def _acknowledge(state: State, run: Process) -> Step:
    mine = {*run.deliveries}
    return "acknowledges", state.moved_on(
        run._replace(at="stopped"),
        acknowledged=state.acknowledged | mine,
        claims=frozenset(each for each in state.claims if not mine & {*each.deliveries}),
    )
