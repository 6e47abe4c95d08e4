"""Every rule of the commit protocol that the code holds is needed: without it, its guard goes red."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.errors import ArchiverError
from tests.faults.guards import GUARDS
from tests.faults.removals import CHANGES, NOT_IN_THE_CODE, Change, apply, removal
from tests.properties.commit_model.rules import EVERY_RULE, Rule

RULES = sorted(GUARDS, key=lambda rule: rule.name)


def _name(rule: Rule) -> str:
    return rule.name.lower()


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_with_the_rule_the_story_ends_well(rule: Rule, tmp_path: Path) -> None:
    GUARDS[rule](tmp_path)


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_without_the_rule_it_does_not(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removal(rule)(monkeypatch)
    with pytest.raises((AssertionError, ArchiverError, pytest.fail.Exception)):
        GUARDS[rule](tmp_path)


def test_every_rule_is_removed_and_guarded_or_said_not_to_be_in_the_code() -> None:
    assert CHANGES.keys() == GUARDS.keys()
    assert CHANGES.keys() | NOT_IN_THE_CODE.keys() == EVERY_RULE
    assert not CHANGES.keys() & NOT_IN_THE_CODE.keys()


def test_a_removal_whose_text_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="0 times"):
        apply(Change("archiver.ledger.commit:commit", (("no such text", ""),)), monkeypatch)
