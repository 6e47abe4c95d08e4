"""One incident among the everyday: somebody guesses a password, and makes use of it.

In the busiest workspace, in the night of the middle day, a user who has always come from one
country fails to log in again and again from another, succeeds, gives itself the owner's role,
exports what it can, deletes documents, and changes where the audit log is sent. In the
morning its rights are taken away. Four alerts say part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from archiver.synthetic.cast import Actor, Workspace, token, uuid

FAILED_LOGINS, EXPORTS, DELETIONS = 26, 38, 57
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """One delivery of the incident.

    Attributes:
        at: The envelope's time, microseconds since 1970, UTC.
        name: `id` of the event or `alert_id` of the alert.
        content: The delivery but for its time, which the caller writes.
    """

    at: int
    is_alert: bool
    name: str
    content: dict[str, Any]


def intruder(workspace: Workspace) -> Actor:
    """Whose account it is: the second busiest human of the workspace."""
    users = [actor for actor in workspace.actors if actor.type == "user"]
    return users[min(1, len(users) - 1)]


def incident(random: Random, workspace: Workspace, midnight: int) -> list[Step]:
    """Tell it, in order of time. `midnight` begins the day, in microseconds since 1970."""
    return sorted(_tell(random, workspace, midnight), key=lambda step: step.at)


def _tell(random: Random, workspace: Workspace, midnight: int) -> Iterator[Step]:
    actor = intruder(workspace)
    where = ("NZ", "Auckland") if actor.ip_country != "NZ" else ("IS", "Reykjavík")
    session = f"ses_{token(random, 14)}"

    def event(seconds: float, action: str, resource: str, resource_id: str, **more: Any) -> Step:
        name = uuid(random)
        data: dict[str, Any] = {
            "id": name, "actor_id": actor.id, "actor_name": actor.name, "actor_type": "user",
            "action": action, "resource": resource, "resource_id": resource_id, "session_id": session,
            "ip_address": "203.0.113.77", "ip_country": where[0], "ip_city": where[1],
            "user_agent": "curl/8.6.0",
        }  # fmt: skip
        content = {"event_type": "event.created", "data": data | more, "workspace_id": workspace.id}
        return Step(midnight + int(seconds * _SECOND), False, name, content)

    def alert(step: Step, seconds: float, rule_type: str, rule_name: str, reason: str) -> Step:
        data = step.content["data"]
        name = f"alt_{uuid(random)}"
        content = {
            "event_type": "alert.triggered", "alert_id": name, "rule_name": rule_name,
            "rule_type": rule_type, "reason": reason,
            "event": {key: data[key] for key in ("id", "action", "actor_id", "ip_country")},
            "workspace_id": workspace.id,
        }  # fmt: skip
        return Step(step.at + int(seconds * _SECOND), True, name, content)

    at = 2 * 3600 + 11 * 60.0
    for number in range(FAILED_LOGINS):
        at += random.uniform(12, 26)
        step = event(at, "auth.login_failed", "session", session, metadata={"failure": "bad_password"})
        yield step
        if number == 19:
            yield alert(
                step, 1.5, "repeated_action", "Repeated Failure", "20 x auth.login_failed by one actor"
            )
    login = event(at + 31, "auth.login", "session", session, metadata={"method": "password", "mfa": False})
    yield login
    yield alert(login, 2, "new_country", "Suspicious Login", f"first login of {actor.name} from {where[0]}")
    granted = {"type": "user", "id": actor.id, "name": actor.name, "metadata": {"role": "owner"}}
    yield event(at + 140, "role.granted", "role", "role_owner", targets=[granted])
    yield event(at + 195, "api_key.created", "api_key", f"key_{token(random, 8)}")
    yield event(
        at + 260, "log_stream.updated", "log_stream", "stream_main", metadata={"enabled": [True, False]}
    )
    at += 400
    for number in range(EXPORTS):
        at += random.uniform(9, 20)
        metadata = {"format": "csv", "rows": random.randint(800, 90_000)}
        step = event(at, "document.exported", "document", f"doc_{token(random, 8)}", metadata=metadata)
        yield step
        if number == 30:
            yield alert(step, 3, "off_hours", "Night Shift", "exports between 22:00 and 06:00")
    at += 120
    for number in range(DELETIONS):
        at += random.uniform(4, 11)
        step = event(at, "document.deleted", "document", f"doc_{token(random, 8)}")
        yield step
        if number == 49:
            yield alert(
                step, 2, "high_volume_destructive", "Mass Deletion", "50 x document.deleted in ten minutes"
            )
    desk = {"actor_id": "user_secDesk", "actor_name": "Security Desk", "ip_address": "192.0.2.10",
            "ip_country": actor.ip_country, "ip_city": actor.ip_city, "session_id": "ses_desk"}  # fmt: skip
    morning = 9 * 3600 + 7 * 60
    yield event(morning, "session.revoked", "session", session, **desk)
    yield event(morning + 41, "role.revoked", "role", "role_owner", targets=[granted], **desk)
