"""Fetch the events of a gap from the vendor's REST API, as lines that a spool takes.

    export IMMUTABLE_TOKEN=imk_…
    python fetch_gap.py --api https://…/api/v1/events --workspace ws_1a2b3c4d \
        --from 2026-03-26T09:00:00Z --to 2026-03-26T15:00:00Z >/var/spool/archiver/.gap.jsonl &&
    mv /var/spool/archiver/.gap.jsonl /var/spool/archiver/gap.jsonl

Needs nothing but Python. Time is cut until each window fits one page, so it does not matter
how the API orders events, or that its cursor tells events of one instant not apart. The windows
touch, and what comes twice is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

PAGE = 100  # the most that the API gives at once
SHORTEST = timedelta(milliseconds=1)
TRIES = 8


def main() -> None:
    """Write the events of the window that the command line tells to stdout, one a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--api", required=True, help="URL of the events, without a query")
    parser.add_argument("--workspace", required=True, help="whose events the token reads")
    parser.add_argument("--from", required=True, dest="since", type=_instant, help="an hour before the gap")
    parser.add_argument("--to", required=True, dest="until", type=_instant, help="an hour behind the gap")
    told = parser.parse_args()
    token = os.environ.get("IMMUTABLE_TOKEN")
    if not token:
        parser.error("the variable IMMUTABLE_TOKEN holds no token")
    seen: set[str] = set()
    for event in _events(told.api, token, told.since, told.until):
        if event["id"] not in seen:
            seen.add(event["id"])
            sys.stdout.write(json.dumps(_delivery(event, told.workspace), separators=(",", ":")) + "\n")
    sys.stderr.write(f"{len(seen)} events\n")


def _delivery(event: dict[str, Any], workspace: str) -> dict[str, Any]:
    """Return an event of the API in the envelope in which the webhook would have brought it."""
    return {
        "event_type": "event.created",
        "data": event,
        "workspace_id": workspace,
        "timestamp": event.get("created_at") or event["occurred_at"],
    }


def _events(api: str, token: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    page = _ask(api, token, {"from": _text(since), "to": _text(until)})
    if page["pagination"]["has_more"] and until - since > SHORTEST:
        middle = since + (until - since) / 2
        yield from _events(api, token, since, middle)
        yield from _events(api, token, middle, until)
        return
    yield from page["data"]
    while page["pagination"]["has_more"]:  # more than a page within a millisecond
        page = _ask(
            api,
            token,
            {"from": _text(since), "to": _text(until), "cursor": page["pagination"]["next_cursor"]},
        )
        yield from page["data"]


def _ask(api: str, token: str, query: dict[str, str]) -> dict[str, Any]:
    """Return one page. Waits where the API says that there were too many requests."""
    url = f"{api}?{urllib.parse.urlencode({**query, 'limit': PAGE})}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310  (told by the operator)
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                page: dict[str, Any] = json.load(answer)
                return page
        except urllib.error.HTTPError as error:
            with error:
                if left == 0 or (error.code != 429 and error.code < 500):
                    sys.exit(f"{api} answered {error.code}; nothing is complete")
                told = error.headers.get("Retry-After", "")
                time.sleep(float(told) if told.isdigit() else 2.0 ** (TRIES - left))
        except OSError as error:
            if left == 0:
                sys.exit(f"{api}: {error}; nothing is complete")
            time.sleep(2.0 ** (TRIES - left))
    raise AssertionError("the last try returns or exits")


def _instant(told: str) -> datetime:
    found = datetime.fromisoformat(told)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


if __name__ == "__main__":
    main()
