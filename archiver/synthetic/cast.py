"""Workspaces and the actors in them; drawn once, before the first delivery."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

_LETTERS = string.ascii_letters + string.digits

_ROLES = ("Operator", "Reviewer", "Analyst", "Editor", "Auditor", "Support Agent", "Engineer", "Planner")
_SERVICES = (
    "Billing Service",
    "Deploy Bot",
    "Backup Job",
    "Sync Worker",
    "Report Scheduler",
    "Import Gateway",
)
_PLACES = (
    ("US", "San Francisco"), ("US", "New York"), ("DE", "Hamburg"), ("DE", "München"), ("GB", "Leeds"),
    ("FR", "Orléans"), ("PL", "Łódź"), ("BR", "São Paulo"), ("JP", "東京"), ("IN", "Pune"),
    ("CA", "Montréal"), ("NL", "Utrecht"), ("SE", "Malmö"), ("EG", "القاهرة"), ("AU", "Perth"),
)  # fmt: skip
_NETWORKS = ("192.0.2.", "198.51.100.", "203.0.113.")
_AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_4) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/123.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0",
    "ExampleApp/4.12.1 (iPhone; iOS 17.4)",
)
_MACHINE_AGENTS = ("python-client/0.2.0", "example-cli/2.8.0 linux/amd64", "Go-http-client/2.0")


@dataclass(frozen=True, slots=True)
class Actor:
    id: str
    name: str
    type: str
    ip_address: str
    ip_country: str
    ip_city: str
    user_agent: str
    mark: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """One tenant.

    Attributes:
        weight: Its share of all deliveries, not normalised.
        actors: The busiest first.
        stream: The configured sender that its deliveries come from.
    """

    id: str
    weight: float
    actors: tuple[Actor, ...]
    actor_weights: tuple[float, ...]
    stream: str


def token(random: Random, length: int) -> str:
    """An opaque id of letters and digits."""
    return "".join(random.choices(_LETTERS, k=length))


def uuid(random: Random) -> str:
    """A UUID version 4 from `random`, so that it is the same for the same seed."""
    return dashed(f"{random.getrandbits(128):032x}")


def dashed(digits: str) -> str:
    """Write the first 32 of some hex digits as a UUID version 4."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def zipf(count: int, exponent: float = 0.9) -> list[float]:
    """Weights of the 1st, 2nd, … of `count`: few have much, many have little."""
    return [1.0 / rank**exponent for rank in range(1, count + 1)]


def _address(random: Random) -> str:
    if random.random() < 0.06:
        return f"2001:db8:{random.getrandbits(16):x}::{random.getrandbits(16):x}"
    return random.choice(_NETWORKS) + str(random.randint(1, 254))


def _actors(random: Random, count: int, home: tuple[str, str]) -> Iterator[Actor]:
    for number in range(1, count + 1):
        machine = number % 5 == 0
        country, city = home if machine or random.random() < 0.8 else random.choice(_PLACES)
        if machine:
            name, kind = random.choice(_SERVICES), random.choice(("system", "api_client"))
        else:
            name, kind = f"{random.choice(_ROLES)} {number}", "user"
        yield Actor(
            id=("svc_" if machine else "user_") + token(random, 7),
            name=name,
            type=kind,
            ip_address=_address(random),
            ip_country=country,
            ip_city=city,
            user_agent=random.choice(_MACHINE_AGENTS if machine else _AGENTS),
            mark=token(random, 10),
        )


def _workspace_id(random: Random, number: int) -> str:
    # Ids are opaque strings; two of them are such that careless path handling would mangle them.
    drawn = f"ws_{random.getrandbits(32):08x}"
    return {13: "0012", 17: "team/ops=eu"}.get(number, drawn)


def draw_workspaces(random: Random, count: int, *, actors: int) -> list[Workspace]:
    """Draw `count` workspaces, the busiest first, with up to `actors` actors each."""
    drawn = []
    seen: set[str] = set()
    for number, weight in enumerate(zipf(count)):
        name = _workspace_id(random, number)
        while name in seen:
            name = _workspace_id(random, -1)
        seen.add(name)
        size = max(2, round(actors * random.uniform(0.4, 1.0)))
        people = tuple(_actors(random, size, random.choice(_PLACES)))
        stream = ("eu", "us")[number % 2]
        drawn.append(Workspace(name, weight, people, tuple(accumulate(zipf(size, 0.6))), stream))
    return drawn
