"""Cases of `tenant_report`."""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

_SHORT = ("workspace_id", "tenant_id", "events")

CASES = [
    Case(
        "each_tenant_is_summed_up_and_what_belongs_to_none_stands_last",
        "tenant_report",
        (
            delivery("1", "28 23:59:59.999999", "owner", "document.deleted", tenant_id="t_1"),
            delivery("2", "29 00:00:00", "owner", "ssm.DeleteParameter", tenant_id="t_1"),
            delivery("3", "29 00:00:00", "owner", "document.exported", tenant_id="t_1", ip_country="FR"),
            delivery("4", "29 01:00:00", "guest", "auth.login_failed", tenant_id="t_1", ip_address=None),
            delivery("5", "29 02:00:00", "guest", "auth.login_failed", tenant_id="t_1", ip_country=None),
            # alike, but neither fails, deletes nor exports
            delivery("6", "29 03:00:00", "guest", "undelete.failed_over", tenant_id="t_1"),
            delivery("7", "29 10:00:00", "owner", "auth.login", tenant_id="t_2", ip_address="192.0.2.2"),
            delivery("8", "29 11:00:00", "bot", "auth.login"),
        ),
        (
            ("ws_1", "t_1", at("28 23:59:59.999999"), at("29 03:00:00"), 2, 6, 2, 5, 2, 1, 2, 2, 1),
            ("ws_1", "t_2", at("29 10:00:00"), at("29 10:00:00"), 1, 1, 1, 1, 1, 1, 0, 0, 0),
            ("ws_1", None, at("29 11:00:00"), at("29 11:00:00"), 1, 1, 1, 1, 1, 1, 0, 0, 0),
        ),
    ),
    Case(
        "one_tenant_alone_leaves_out_the_others_and_is_kept_apart_by_workspace",
        "tenant_report",
        (
            delivery("1", "29 10:00:00", "owner", "auth.login", tenant_id="t_1", workspace="ws_2"),
            delivery("2", "29 10:00:00", "owner", "auth.login", tenant_id="t_1"),
            delivery("3", "29 10:00:00", "owner", "auth.login", tenant_id="t_1"),
            delivery("4", "29 10:00:00", "owner", "auth.login", tenant_id="tX1"),
            delivery("5", "29 10:00:00", "owner", "auth.login"),
        ),
        (("ws_1", "t_1", 2), ("ws_2", "t_1", 1)),
        columns=_SHORT,
        parameters={"tenant": "t_1"},
    ),
    Case(
        "a_period_has_its_first_moment_and_not_its_last",
        "tenant_report",
        (
            delivery("1", "28 23:59:59.999999", "owner", "auth.login", tenant_id="t_1"),
            delivery("2", "29 00:00:00", "owner", "auth.login", tenant_id="t_1"),
            delivery("3", "29 23:59:59.999999", "owner", "auth.login", tenant_id="t_1"),
            delivery("4", "30 00:00:00", "owner", "auth.login", tenant_id="t_1"),
            delivery("5", "29 10:00:00", "owner", "auth.login", tenant_id="t_1", workspace="ws_2"),
        ),
        (("ws_1", "t_1", 2),),
        columns=_SHORT,
        parameters={"since": "2026-03-29", "until": "2026-03-30", "workspace": "ws_1"},
    ),
    Case(
        "capitals_in_patterns_and_in_actions_do_not_matter",
        "tenant_report",
        (
            delivery("1", "29 10:00:00", "owner", "job.Error"),
            delivery("2", "29 10:00:00", "owner", "queue.RemoveItem"),
            delivery("3", "29 10:00:00", "owner", "s3.getobject"),
            delivery("4", "29 10:00:00", "owner", "s3.GetObject"),
        ),
        ((4, 1, 1, 2),),
        columns=("events", "failures", "deletions", "exports"),
        parameters={"failures": "%.ERROR", "deletions": "%.Remove%", "exports": "S3.Get%"},
    ),
    Case(
        "workspaces_stand_in_their_order_whatever_their_tenants",
        "tenant_report",
        (
            delivery("1", "29 10:00:00", "owner", "auth.login", tenant_id="a", workspace="ws_2"),
            delivery("2", "29 10:00:00", "owner", "auth.login", tenant_id="b", workspace="ws_1"),
        ),
        (("ws_1", "b", 1), ("ws_2", "a", 1)),
        columns=_SHORT,
    ),
    Case("no_events_no_rows", "tenant_report", (), ()),
]
