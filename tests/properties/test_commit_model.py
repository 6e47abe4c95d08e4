"""The commit protocol holds in every interleaving, and every rule of it is needed."""

from __future__ import annotations

import pytest

from .commit_model.removals import RED, REDUNDANT, without
from .commit_model.rules import EVERY_RULE, Rule
from .commit_model.scenarios import SCENARIOS
from .commit_model.search import search

LONG = [pytest.mark.soak, pytest.mark.timeout(900)]
QUICK = [name for name, scenario in SCENARIOS.items() if not scenario.is_long]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=LONG if s.is_long else []) for n, s in SCENARIOS.items()],
)
def test_the_protocol_as_designed_is_clean(name: str) -> None:
    found = search(SCENARIOS[name])

    assert found.is_complete
    assert found.damages == {}, str(found)


@pytest.mark.parametrize("rule", RED, ids=lambda rule: rule.name.lower())
def test_without_the_rule_the_search_finds_damage(rule: Rule) -> None:
    expected = RED[rule]

    found = without(rule, scenario=expected.scenario)

    assert [*found.damages] == [expected.damage], str(found)


@pytest.mark.parametrize("rule", REDUNDANT, ids=lambda rule: rule.name.lower())
def test_without_a_backing_rule_and_its_partner_the_search_finds_damage(rule: Rule) -> None:
    pair = REDUNDANT[rule]

    both = search(SCENARIOS[pair.scenario], EVERY_RULE - {rule, pair.partner})
    partner_alone = search(SCENARIOS[pair.scenario], EVERY_RULE - {pair.partner})

    assert pair.damage in both.damages, str(both)
    assert pair.damage not in partner_alone.damages, str(partner_alone)


@pytest.mark.parametrize("rule", REDUNDANT, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_listed_as_redundant_is_harmless_to_remove_alone(rule: Rule) -> None:
    found = {name: without(rule, scenario=name) for name in QUICK}

    assert [name for name, each in found.items() if each.damages or not each.is_complete] == []


def test_every_rule_is_either_needed_or_listed_as_redundant() -> None:
    assert RED.keys() | REDUNDANT.keys() == EVERY_RULE
    assert not RED.keys() & REDUNDANT.keys()


def test_a_search_that_is_cut_short_says_so() -> None:
    assert not search(SCENARIOS["collect"], most_states=10).is_complete
