"""All that may happen next: steps of processes, deaths, late arrivals, a power failure."""

from __future__ import annotations

from collections.abc import Iterator

from . import others, run
from .rules import Rule
from .state import Faults, Process, State


def steps_of(
    state: State, process: Process, rules: frozenset[Rule], faults: Faults
) -> Iterator[tuple[str, State]]:
    """Yield what one process may do next."""
    if process.is_over:
        return
    if process.job.kind == "collect":
        yield from others.collect_steps(state, process, rules, faults)
    elif process.job.kind == "reader":
        yield from others.reader_steps(state, process)
    else:
        yield from run.steps(state, process, rules, faults)


def steps(state: State, rules: frozenset[Rule], faults: Faults) -> Iterator[tuple[str, State]]:
    """Yield every next state, with the name of the step."""
    overwrite = Rule.CONDITIONAL_CREATE not in rules
    for flying in state.flying:
        rest = state._replace(flying=state.flying - {flying})
        if flying.entry:
            landed = rest.with_entry(flying.slot, flying.entry, overwrite=overwrite)
            yield f"the late PUT of {flying.entry.attempt} arrives at {flying.slot}", landed
        elif flying.object:
            yield f"the late PUT of {flying.object[0]} arrives", rest.with_object(flying.object)
    for process in state.processes:
        for name, after in steps_of(state, process, rules, faults):
            yield f"{process.name} {name}", after
        if process.name in faults.deaths and process.at != "start" and not process.is_over:
            yield f"{process.name} dies", state.moved_on(process._replace(at="dead"))
    if faults.power_failure and any(each.at != "start" and not each.is_over for each in state.processes):
        yield "the power fails", _after_power_failure(state)


def _after_power_failure(state: State) -> State:
    """Entries that nobody synced are gone, with whoever was at work; data files were synced when written."""
    dead = tuple(p if p.at == "start" or p.is_over else p._replace(at="dead") for p in state.processes)
    return state._replace(ledger=state.ledger[: state.durable], processes=dead, flying=frozenset())
