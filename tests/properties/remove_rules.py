"""Remove each rule of the commit protocol in turn, and show that something goes red.

    python -m tests.properties.remove_rules            the model, then the code
    python -m tests.properties.remove_rules --traces   with the shortest way into each damage

Prints one line a rule. Exit 1 when a removal stays green that should not, or when a
rule that is listed as redundant turns out to be needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.faults.removals import CHANGES, NOT_IN_THE_CODE
from tests.faults.removals import removal as removal_of

from .commit_model.removals import RED, REDUNDANT, without
from .commit_model.rules import NOT_MODELLED, Rule


class CodeRemoval(NamedTuple):
    """A rule taken out of the real code, and the test that must then fail.

    Attributes:
        rule: Which.
        remove: Changes the code through a MonkeyPatch, which undoes it afterwards.
        test: The pytest node id of a test that is green with the rule.
    """

    rule: Rule
    remove: Callable[[pytest.MonkeyPatch], None]
    test: str


_STORY = "tests/faults/test_removed_rules.py::test_with_the_rule_the_story_ends_well[{}]"
CODE = [CodeRemoval(rule, removal_of(rule), _STORY.format(rule.name.lower())) for rule in CHANGES]


class _Removed:
    """A pytest plugin that holds the removal while the tests run."""

    def __init__(self, removal: CodeRemoval) -> None:
        self._removal = removal

    @pytest.fixture(autouse=True)
    def _rule_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._removal.remove(monkeypatch)


def _say(*cells: object) -> None:
    widths = (26, 14, 30, 66, 5)
    line = "".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=False))
    sys.stdout.write(line.rstrip() + "\n")


def remove_from_model(*, traces: bool) -> list[Rule]:
    """Print a line for each rule; return those that came out otherwise than listed."""
    unexpected = []
    _say("rule", "step", "scenario", "damage", "steps")
    for rule, expected in RED.items():
        found = without(rule, scenario=expected.scenario)
        kind, way = next(iter(found.damages.items()), ("GREEN: nothing found", []))
        _say(rule.name.lower(), rule.step, expected.scenario, kind, len(way))
        if traces:
            _say(*[f"    {rule.text}"], *[f"\n      {step}" for step in way])
        if kind != expected.damage:
            unexpected.append(rule)
    sys.stdout.write("\nredundant alone, tested with the rule that they back:\n")
    for rule, pair in REDUNDANT.items():
        alone = without(rule, scenario=pair.scenario)
        both = without(rule, pair.partner, scenario=pair.scenario)
        kind, way = next(iter(both.damages.items()), ("GREEN: nothing found", []))
        _say(rule.name.lower(), rule.step, pair.scenario, kind, len(way))
        sys.stdout.write(f"    with {pair.partner.name.lower()}. {pair.reason}\n")
        if alone.damages or not alone.is_complete or not both.damages:
            unexpected.append(rule)
    sys.stdout.write("\nnot in the model:\n")
    for what, why in NOT_MODELLED.items():
        sys.stdout.write(f"    {what}: {why}\n")
    return unexpected


def remove_from_code() -> list[Rule]:
    """Run the registered tests, each with its rule and then without; return the rules that stayed green."""
    unexpected = []
    sys.stdout.write(f"\nremoved from the code: {len(CODE)} registered\n")
    for removal in CODE:
        quiet = ["-q", "--no-header", "--no-summary", "-p", "no:randomly", "-p", "no:cacheprovider"]
        before = pytest.main([*quiet, removal.test])
        after = pytest.main([*quiet, removal.test], plugins=[_Removed(removal)])
        went_red = before == pytest.ExitCode.OK and after == pytest.ExitCode.TESTS_FAILED
        _say(removal.rule.name.lower(), removal.rule.step, "red" if went_red else "GREEN", removal.test)
        if not went_red:
            unexpected.append(removal.rule)
    sys.stdout.write("\nnot in the code:\n")
    for rule, why in NOT_IN_THE_CODE.items():
        sys.stdout.write(f"    {rule.name.lower()}: {why}\n")
    return unexpected


def main(arguments: list[str]) -> int:
    unexpected = remove_from_model(traces="--traces" in arguments) + remove_from_code()
    if unexpected:
        names = ", ".join(rule.name.lower() for rule in unexpected)
        sys.stdout.write(f"\nnot as listed: {names}\n")
    return bool(unexpected)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
