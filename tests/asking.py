"""Named queries to ask in tests: an archive with failed logins, and a folder of queries of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import archive_bodies, event, new_archive

HEAD = "-- title: Mine\n-- answers: What is mine?\n-- when: Never.\n"
MY_ACTIONS = """\
-- topic: My things
-- param only_new BOOLEAN false only new ones
-- param after TIMESTAMP '2026-01-01T12:00:00Z' after this
-- column action VARCHAR what
-- column events BIGINT how often
-- draw: bars events
SELECT action, count(*) AS events FROM events
WHERE $only_new IS NOT NULL AND event_time >= $after
GROUP BY action
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An archive in which ann failed to log in seven times, and bob three times."""
    archive = new_archive(tmp_path / "a")
    archive_bodies(
        archive,
        *(event(f"a{n}", actor_id="ann", action="auth.login_failed") for n in range(7)),
        *(event(f"b{n}", actor_id="bob", action="auth.login_failed", workspace="ws_2") for n in range(3)),
    )
    return tmp_path / "a"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of queries of one's own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_actions.sql").write_text(HEAD + MY_ACTIONS)
    return folder
