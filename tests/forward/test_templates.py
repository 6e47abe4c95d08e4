"""Templates: what stands in a name, and what no event can make of it."""

from __future__ import annotations

import pytest

from archiver.errors import ConfigError
from archiver.forward.base import Outgoing
from archiver.forward.settings import Destination
from archiver.forward.templates import MOST_VALUE_CHARACTERS, PLACEHOLDERS, Template, template_of

EVENT = Outgoing(b"{}", "events", "e1", "ws_1a2b", "event.created", "auth.login.failed", 0, 0)
ALERT = Outgoing(b"{}", "alerts", "a1", "ws_1a2b", "alert.triggered", "", 0, 0)


def rendered(text: str, event: Outgoing = EVENT) -> str:
    return Template(text, "index").render(event)


@pytest.mark.parametrize(
    ("text", "of_event", "of_alert"),
    [
        ("main", "main", "main"),
        ("audit_{workspace}", "audit_ws_1a2b", "audit_ws_1a2b"),
        ("{dataset}:{event_type}", "events:event.created", "alerts:alert.triggered"),
        ("{action}", "auth.login.failed", "alert.triggered"),
        ("{action_group}-{action_group}", "auth-auth", "alert-alert"),
    ],
)
def test_placeholders_stand_for_what_the_event_says(text: str, of_event: str, of_alert: str) -> None:
    assert (rendered(text), rendered(text, ALERT)) == (of_event, of_alert)


def test_an_action_without_a_dot_is_its_own_group_and_an_empty_value_is_none() -> None:
    assert rendered("{action_group}", EVENT._replace(action="login")) == "login"
    assert rendered("{action}/{action_group}", EVENT._replace(action="")) == "none/none"
    assert rendered("{action_group}", EVENT._replace(action=".hidden")) == "none"
    assert rendered("x{workspace}", EVENT._replace(workspace="")) == "xnone"


@pytest.mark.parametrize(
    "text",
    ["{tenant}", "{}", "{workspace", "workspace}", "{{workspace}}", "{workspace.x}", "{0}", "{workspace!r}"],
)
def test_what_means_nothing_is_refused_and_what_is_known_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[destinations\.siem\] index = .* means nothing") as caught:
        Template(text, "[destinations.siem] index")
    assert all(f"{{{name}}}" in (caught.value.hint or "") for name in PLACEHOLDERS)


@pytest.mark.parametrize("text", ["", "a\nb", "a\x00b", "x" * 501])
def test_a_template_is_one_bounded_printable_line(text: str) -> None:
    with pytest.raises(ConfigError, match="index must be one line"):
        Template(text, "index")


def test_values_are_never_templates_themselves() -> None:
    hostile = "{dataset}%s{0.__class__}"
    assert rendered("{workspace}", EVENT._replace(workspace=hostile)) == hostile


@pytest.mark.parametrize(
    "hostile", ["a\nb", "a\x1bb", "a\x00b", "a\u2028b", "a\ud800b", "a\x7fb", "a\u202eb"]
)
def test_a_value_is_one_printable_line(hostile: str) -> None:
    assert rendered("{workspace}", EVENT._replace(workspace=hostile)) == "a_b"


def test_a_long_value_is_bounded_and_two_long_ones_stay_apart() -> None:
    exact = "w" * MOST_VALUE_CHARACTERS
    first, second = (
        rendered("{workspace}", EVENT._replace(workspace=exact + tail)) for tail in ("a", "b\ud800")
    )
    assert rendered("{workspace}", EVENT._replace(workspace=exact)) == exact
    assert len(first) == len(second) == MOST_VALUE_CHARACTERS
    assert first != second
    assert first.isprintable()


def test_what_a_template_depends_on_is_told() -> None:
    assert Template("a{workspace}b{action}{action}", "index").names == {"workspace", "action"}
    assert not Template("main", "index").names


def test_an_option_that_is_not_configured_is_no_template() -> None:
    destination = Destination("siem", "splunk", options={"index": "a_{dataset}", "host": "{x}"})
    found = template_of(destination, "index")
    assert found is not None
    assert found.render(EVENT) == "a_events"
    assert template_of(destination, "source") is None
    with pytest.raises(ConfigError, match=r"\[destinations\.siem\] host"):
        template_of(destination, "host")
