"""docs/siem.md: its configurations are read, its commands exist, its samples are what is sent."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from archiver.cli.main import cli
from archiver.config import read_settings
from archiver.forward.actions import Actions
from archiver.forward.base import Outgoing
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.payload import Payloads
from archiver.forward.settings import _COMMON, _OF_KIND, KINDS, Destination
from tests.support import RECEIVED_US

PAGE = (Path(__file__).parents[2] / "docs" / "siem.md").read_text(encoding="utf-8")
DELIVERED = (
    b'{"event_type":"event.created","data":{"id":"9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d","actor_id":"user_42",'
    b'"actor_name":"clerk@example.com","actor_type":"user","action":"auth.login_failed","resource":"session",'
    b'"resource_id":"ses_7f3a","metadata":{"attempt":3},"ip_address":"203.0.113.7","ip_country":"NZ",'
    b'"user_agent":"Mozilla/5.0"},"workspace_id":"ws_1a2b3c4d","timestamp":"2026-03-26T10:14:58.120000Z"}'
)
EVENT = Outgoing(
    DELIVERED,
    "events",
    "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    "ws_1a2b3c4d",
    "event.created",
    "auth.login_failed",
    RECEIVED_US - 1_880_000,
    RECEIVED_US,
)
SECTION = {
    "splunk": "splunk",
    "datadog": "datadog",
    "elastic": "elastic",
    "logstash": "logstash",
    "partner": "http",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class Secrets(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, name: str, default: Any = None) -> str:  # type: ignore[override]
        return "0" * 32


def destinations(folder: Path) -> dict[str, Destination]:
    """All that the page configures, each read from its own block as a whole file."""
    found = {}
    for text in blocks("toml"):
        path = folder / "archiver.toml"
        path.write_text(text, encoding="utf-8")
        found |= read_settings(path).destinations
    return found


def sample(name: str, folder: Path) -> str:
    """What stands under `<!-- sample: name -->`, made by the code."""
    if name == "delivered":
        return DELIVERED.decode()
    if name in ("ecs", "ocsf"):
        made = Payloads(Destination("sample", "http", form=name), {}).of(EVENT)  # type: ignore[arg-type]
        return json.dumps(json.loads(made), indent=1, ensure_ascii=False)
    configured = destinations(folder)[next(one for one, kind in SECTION.items() if kind == name)]
    item = intake_of(configured, Secrets()).item(EVENT, Payloads(configured, Secrets()).of(EVENT))
    return item.decode().rstrip(",\n")  # as it is sent, less what separates it from the next


def samples() -> list[str]:
    return re.findall(r"^<!-- sample: (\w+) -->$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_each_configuration_is_read_and_its_destinations_can_be_made(number: int, tmp_path: Path) -> None:
    text = blocks("toml")[number]
    path = tmp_path / "archiver.toml"
    path.write_text(text, encoding="utf-8")

    settings = read_settings(path)

    assert [*settings.destinations] == [*tomllib.loads(text).get("destinations", {})]
    for destination in settings.destinations.values():
        intake_of(destination, Secrets())
        Payloads(destination, Secrets())
        client_of(destination, Secrets()).close()


def test_there_is_a_sample_of_each_form_and_of_each_kind() -> None:
    assert sorted(samples()) == sorted(["delivered", "ecs", "ocsf", *KINDS])


@pytest.mark.parametrize("name", samples())
def test_a_sample_is_what_the_code_makes(name: str, tmp_path: Path) -> None:
    shown = re.search(rf"^<!-- sample: {name} -->\n```json\n(.*?)\n?```$", PAGE, re.MULTILINE | re.DOTALL)

    assert shown is not None
    assert shown[1] == sample(name, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_are_those_of_the_code(kind: str) -> None:
    members = {"batch": "lines"} if kind == "http" else {}
    place = Destination("sample", kind, url="https://siem.example.com", options=members)  # type: ignore[arg-type]
    from archiver.forward.datadog import DatadogIntake  # noqa: PLC0415
    from archiver.forward.elastic import ElasticIntake  # noqa: PLC0415
    from archiver.forward.logstash import LogstashIntake  # noqa: PLC0415
    from archiver.forward.splunk import SplunkIntake  # noqa: PLC0415
    from archiver.forward.webhook import WebhookIntake  # noqa: PLC0415
    from archiver.secret import Secret  # noqa: PLC0415

    token = Secret("0" * 32)
    intakes: dict[str, Any] = {
        "splunk": lambda: SplunkIntake(place, token),
        "datadog": lambda: DatadogIntake(place, token),
        "elastic": lambda: ElasticIntake(place, None, None),
        "logstash": lambda: LogstashIntake(place, None, None),
        "http": lambda: WebhookIntake(place, None, None, None),
    }
    limits = intakes[kind]().limits
    told = PAGE.partition(f"<!-- limits: {kind} -->")[2].split("\n\n", 1)[0]

    assert f"{limits.most_events:,} events" in told
    # One or two bytes of an array are in no item.
    shown = [int(one.replace(",", "")) for one in re.findall(r"([0-9,]+) bytes", told)]
    assert any(0 <= one - limits.most_bytes <= 2 for one in shown)
    assert any(0 <= one - limits.most_event_bytes <= 2 for one in shown) or kind in ("logstash", "http")


def test_the_table_of_actions_that_is_shown_can_be_loaded(tmp_path: Path) -> None:
    shown = re.search(r"^<!-- actions -->\n```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    path = tmp_path / "ours.toml"
    path.write_text(shown[1], encoding="utf-8")

    actions = Actions.load(str(path))

    assert actions.of("billing.plan_changed").head["class_uid"] == 3004


def test_each_key_of_a_destination_is_told() -> None:
    told = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for key in {*_COMMON}.union(*_OF_KIND.values()):
        assert re.search(rf"`{key}`", told), key


def commands() -> list[str]:
    """Every command line in the page's blocks and in its running text."""
    found = re.findall(
        r"^(?:.* )?(?:/opt/archiver/bin/|ExecStart=\S*/)?(archiver [a-z].*)$", PAGE_OF_BLOCKS, re.M
    )
    found += re.findall(r"`(archiver [a-z][^`]*)`", PAGE)
    return sorted({re.split(r" {2,}#| >>", one)[0] for one in found})


PAGE_OF_BLOCKS = "\n".join(
    line
    for block in re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("/opt/archiver/bin/archiver", " archiver")
    .replace("ExecStart=", "")
    .splitlines()
    if not line.startswith(("#", "Description", "User", "Group"))
)


@pytest.mark.parametrize("line", commands())
def test_each_command_exists_with_its_options(line: str) -> None:
    command: click.Command | None = cli
    context = click.Context(cli)
    known = {option for one in cli.params for option in one.opts}
    for word in shlex.split(line)[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            command = command.get_command(context, word)
            assert command is not None, f"{line}: {word}"
            known |= {option for one in command.params for option in one.opts}
        elif word.startswith("-"):
            assert word in known, f"{line}: {word}"


def test_the_page_has_commands() -> None:
    assert len(commands()) >= 10
