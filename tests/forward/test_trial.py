"""`archiver forward NAME --test`: one marked event, and an explanation of whatever comes back."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.forward.settings import Destination, read_destinations
from archiver.forward.trial import Trial, _advise, synthetic_event, trial, trial_text
from archiver.forward.wanted import Wanted
from tests.services.bulk import BulkStandIn, ItemError
from tests.services.certificates import self_signed
from tests.services.datadog import DatadogStandIn
from tests.services.hec import HecStandIn
from tests.services.hook import HookStandIn
from tests.services.logstash import LogstashStandIn
from tests.services.standin import Asked, Fault, Reply, StandIn
from tests.validating import row

SECRET = "0123456789abcdef-a-secret-0123456789"
USUAL: dict[str, dict[str, Any]] = {
    "splunk": {"token_env": "TOKEN", "index": "audit"},
    "datadog": {"token_env": "TOKEN"},
    "elastic": {"token_env": "TOKEN"},
    "logstash": {"user": "archiver", "password_env": "TOKEN"},
    "http": {"token_env": "TOKEN"},
}


def destination(kind: str, url: str, **settings: Any) -> Destination:
    members = {"type": kind, "url": url, "timeout_seconds": 5} | USUAL[kind] | settings
    return read_destinations("test.toml", {"siem": members}, Path())["siem"]


def standin(kind: str) -> StandIn:
    made: dict[str, StandIn] = {
        "splunk": HecStandIn(token=SECRET),
        "datadog": DatadogStandIn(key=SECRET),
        "elastic": BulkStandIn(key=SECRET),
        "logstash": LogstashStandIn(user="archiver", password=SECRET),
        "http": HookStandIn(token=SECRET),
    }
    return made[kind]


def tried(kind: str, server: StandIn, *, secret: str = SECRET, **settings: Any) -> Trial:
    """Try it, and hold what is said against what must never be."""
    found = trial(destination(kind, server.url, **settings), {"TOKEN": secret})
    said = trial_text(found) + json.dumps(found.to_json()) + repr(found)
    assert secret not in said
    assert trial_text(found).replace("\n", "").isprintable()
    return found


@pytest.mark.parametrize("kind", USUAL)
def test_one_marked_event_arrives_and_can_be_found(kind: str) -> None:
    server = standin(kind)
    with server.serving():
        found = tried(kind, server)
    assert (found.is_taken, found.exit_code) == (True, 0), found
    (asked,) = server.asked
    assert asked.body.count(found.event_id.encode()) >= 1
    assert found.event_id.startswith("archiver-test-")
    assert b"archiver.test" in asked.body
    assert found.url == server.url + (asked.path if asked.path != "/" else "/")
    assert (found.sent_bytes, found.gzip) == (asked.wire_bytes, "content-encoding" in asked.headers)
    assert found.answer in ("200", "202", "204")
    text = trial_text(found)
    assert found.event_id in text.split("find it")[1]
    assert "the event stays there" in text


@pytest.mark.parametrize("kind", USUAL)
def test_a_wrong_secret_is_said_to_be_one_and_never_shown(kind: str) -> None:
    server = standin(kind)
    with server.serving():
        found = tried(kind, server, secret="another-secret-0123456789-0123456789")
    assert (found.is_taken, found.exit_code) == (False, 1)
    assert found.answer.split()[0] in ("401", "403")
    assert any(word in found.means for word in ("token", "key", "password", "who sends"))
    assert found.mend
    assert found.search == ""


class _Echo(StandIn):
    def answer(self, asked: Asked) -> Reply:
        told = asked.headers.get("authorization") or asked.headers["dd-api-key"]
        return Reply(403, f"who is {told}?".encode())


@pytest.mark.parametrize("kind", USUAL)
def test_a_receiver_that_repeats_the_secret_does_not_make_us_show_it(kind: str) -> None:
    server = _Echo()
    with server.serving():
        found = tried(kind, server)
        assert tried(kind, server, gzip=False).exit_code == 1
    assert "(a secret)" in found.told
    headers = server.asked[0].headers
    token = headers.get("authorization") or headers["dd-api-key"]
    assert token.split()[-1] not in trial_text(found)


@pytest.mark.parametrize(
    ("code", "means", "mend"),
    [
        (1, "disabled", "enable"),
        (4, "no such token", "Event Collector"),
        (7, "no such index", "create the index"),
        (9, "busy", "queues"),
        (10, "acknowledgement", "acknowledge = true"),
    ],
)
def test_codes_of_splunk_are_explained(code: int, means: str, mend: str) -> None:
    server = HecStandIn(token=SECRET)
    with server.serving():
        status = {1: 403, 4: 403, 7: 400, 9: 503, 10: 400}[code]
        body = json.dumps({"text": "Whatever Splunk says", "code": code}).encode()
        server.fault(Fault("reply", Reply(status, body)))
        found = tried("splunk", server)
    assert found.answer == f"{status} code {code}"
    assert "Whatever Splunk says" in found.told
    assert means in found.means
    assert mend in found.mend
    assert server.requests == 1


def test_splunk_with_acknowledgement_is_asked_until_it_is_indexed() -> None:
    server = HecStandIn(token=SECRET, acknowledges=True)
    with server.serving():
        found = tried("splunk", server, acknowledge=True)
    assert found.is_taken, found
    assert found.url.endswith("/services/collector/event")
    assert found.sent_bytes > found.payload_bytes


@pytest.mark.parametrize(
    ("error", "means", "mend"),
    [
        (ItemError(400, "document_parsing_exception", "failed to parse field [x]"), "mapping", "template"),
        (ItemError(404, "index_not_found_exception", "no such index [x]"), "no such index", "create"),
        (ItemError(401, "security_exception", "no credentials"), "does not know", "new API key"),
        (ItemError(403, "security_exception", "action is unauthorized"), "does not let", "privileges"),
        (ItemError(429, "es_rejected_execution_exception", "full"), "less", ""),
    ],
)
def test_errors_of_elastic_inside_a_200_are_explained(error: ItemError, means: str, mend: str) -> None:
    class Refusing(BulkStandIn):
        def _create(self, action: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
            self.refusals[action["create"]["_id"]] = error
            return super()._create(action, document)

    server = Refusing(key=SECRET)
    with server.serving():
        found = tried("elastic", server)
    assert not found.is_taken
    assert means in found.means
    assert mend in found.mend
    assert error.reason in found.told


@pytest.mark.parametrize("kind", USUAL)
@pytest.mark.parametrize(
    ("fault", "means"),
    [
        (Fault("reset_before"), "cut"),
        (Fault("reply", Reply(404, b"<html>\x1b[31mnot found</html>")), "no"),
        (Fault("reply", Reply(302, b"", {"Location": "https://login.example.com/"})), "elsewhere"),
        (Fault("reply", Reply(500, b"{}")), "failed"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_goes_wrong_for_all_kinds_is_explained(kind: str, fault: Fault, means: str) -> None:
    server = standin(kind)
    with server.serving():
        server.fault(Fault(fault.kind, fault.reply))
        found = tried(kind, server)
    assert not found.is_taken
    assert means in found.means
    assert server.requests == 1  # nothing is tried twice


@pytest.mark.parametrize("kind", ["splunk", "elastic"])
def test_a_login_page_that_answers_200_is_not_taken_for_the_receiver(kind: str) -> None:
    server = standin(kind)
    with server.serving():
        server.fault(Fault("reply", Reply(200, b"<html>please log in</html>")))
        found = tried(kind, server)
    assert not found.is_taken
    assert "but not as" in found.means


@pytest.mark.parametrize("kind", USUAL)
def test_a_port_where_nothing_listens_is_explained(kind: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    found = trial(destination(kind, url), {"TOKEN": SECRET})
    assert (found.exit_code, found.answer) == (1, "refused")
    assert "Nothing listens" in found.means


def test_a_receiver_that_is_silent_is_not_waited_for_longer_than_configured() -> None:
    server = standin("http")
    with server.serving():
        server.fault(Fault("slow", seconds=30))
        found = tried("http", server, timeout_seconds=0.1)
    assert (found.exit_code, found.answer) == (1, "timeout")
    assert "may have taken" in found.means


def test_a_certificate_that_nobody_vouches_for_is_explained(tmp_path: Path) -> None:
    server = standin("splunk")
    certificate = self_signed(tmp_path)
    with server.serving(certificate):
        found = tried("splunk", server)
        assert (found.exit_code, found.answer) == (1, "tls")
        assert "ca_file" in found.mend
        assert tried("splunk", server, ca_file=str(certificate.chain)).is_taken
    assert server.requests == 1


@pytest.mark.parametrize("form", ["as_delivered", "ecs", "ocsf"])
def test_the_event_takes_the_form_that_all_events_take(form: str) -> None:
    server = standin("elastic")
    with server.serving():
        found = tried("elastic", server, body=form, drop=["actor_name"])
    assert found.is_taken, found
    assert found.form == form
    assert b'"archiver forward --test"' not in server.asked[0].body


def test_the_event_is_one_of_the_destinations_own_workspaces_and_kinds() -> None:
    usual = destination("http", "http://127.0.0.1", workspaces=["ws_9"])
    alerts = destination("http", "http://127.0.0.1", event_types=["alert.triggered"])
    assert synthetic_event(usual).workspace == "ws_9"
    assert synthetic_event(alerts).dataset == "alerts"
    assert Wanted.of(alerts)(synthetic_event(alerts))
    assert synthetic_event(usual).id != synthetic_event(usual).id


@pytest.mark.parametrize("types", [{}, {"event_types": ["alert.triggered"]}])
def test_the_synthetic_event_is_a_valid_one(types: dict[str, Any]) -> None:
    event = synthetic_event(destination("http", "http://127.0.0.1", **types))
    known = row(event.body, event.dataset)
    assert known["workspace_id"] == event.workspace
    assert known["alert_id" if types else "id"] == event.id


def test_a_missing_secret_is_an_error_of_the_configuration_and_nothing_is_sent() -> None:
    server = standin("splunk")
    with server.serving(), pytest.raises(ConfigError, match="TOKEN is not set"):
        trial(destination("splunk", server.url), {})
    assert server.requests == 0


def test_an_event_that_can_never_be_sent_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    server = standin("datadog")
    with server.serving():
        monkeypatch.setattr("archiver.forward.datadog.MOST_EVENT_BYTES", 100)
        found = tried("datadog", server)
    assert (found.exit_code, found.answer, server.requests) == (1, "not sent", 0)


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("http://siem.example.com:8088/in", True),
        ("http://localhost.example.com/in", True),
        ("http://127.example.com", True),
        ("http://127.0.0.1:8088/in", False),
        ("http://localhost", False),
        ("http://[::1]:80/", False),
        ("https://siem.example.com/", False),
    ],
)
def test_what_travels_in_the_clear_to_another_machine_is_told(url: str, is_told: bool) -> None:
    told = Trial("siem", "http", "as_delivered", url, "e1")
    _advise(told, Destination("siem", "http", url=url))
    assert any("in the clear" in note for note in told.notes) is is_told
