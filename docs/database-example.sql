-- A table of audit events to try archiver with: docs/database.md walks through it.
--   psql -v ON_ERROR_STOP=1 -f docs/database-example.sql "$DATABASE_URL"
CREATE TABLE public.audit_events (
    id            uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id  text        NOT NULL,
    actor_id      text        NOT NULL,
    actor_name    text,
    actor_type    text,
    action        text        NOT NULL,
    resource      text,
    resource_id   text,
    ip            inet,
    details       jsonb       NOT NULL DEFAULT '{}',
    targets       jsonb,
    request_ms    numeric(10, 3),
    internal_note text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Which transaction wrote the row. By it no row can be missed: strategy xid8.
    xid           xid8        NOT NULL DEFAULT pg_current_xact_id()
);
-- Each page of a run begins in it, and goes on from there.
CREATE INDEX audit_events_xid_id ON public.audit_events (xid, id);

-- 2,000 events of four people in two workspaces over three days; nobody in them is real.
INSERT INTO public.audit_events
       (id, workspace_id, actor_id, actor_name, actor_type, action, resource, resource_id, ip, details,
        request_ms, internal_note, created_at)
SELECT md5('event ' || n)::uuid,
       CASE WHEN n % 3 = 0 THEN 'ws_north' ELSE 'ws_south' END,
       'user_' || n % 4,
       (ARRAY['Editor 1', 'Editor 2', 'Planner 1', 'Analyst 1'])[n % 4 + 1],
       'user',
       (ARRAY['document.viewed', 'document.updated', 'auth.login', 'document.deleted', 'role.granted'])[n % 5 + 1],
       'document',
       'doc_' || n % 97,
       '192.0.2.1'::inet + n % 200,
       jsonb_build_object('attempt', n % 3, 'client', 'web'),
       n / 8.0,
       'ticket ' || n,
       timestamptz '2025-03-01 08:00:00+00' + n * interval '1 minute 37.5 seconds'
FROM generate_series(1, 2000) AS n;

-- Two that no archive takes as they are: an empty workspace, and targets that are no list.
INSERT INTO public.audit_events (id, workspace_id, actor_id, action, targets, created_at) VALUES
    (md5('event 2001')::uuid, '', 'user_1', 'document.viewed', NULL, '2025-03-03 15:00:00+00'),
    (md5('event 2002')::uuid, 'ws_north', 'user_2', 'document.shared', '{"type": "user"}', '2025-03-03 15:05:00+00');

-- Append-only, as an audit table should be: only a session that says so may delete, and that is `purge`.
CREATE FUNCTION public.audit_events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('immutable.allow_archive', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_events is append-only';
END $$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON public.audit_events
    FOR EACH ROW EXECUTE FUNCTION public.audit_events_append_only();

ANALYZE public.audit_events;
