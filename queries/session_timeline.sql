-- title: Session timeline
-- topic: Who did what
-- answers: What happened in this session, step by step, and did it change hands?
-- when: An access key or a browser session behaves oddly, and every step of it matters.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param session VARCHAR NULL the session's id, exactly; without it, all sessions
-- param actor VARCHAR NULL only sessions in which this actor took part
-- column session_id VARCHAR the session
-- column event_time TIMESTAMP WITH TIME ZONE when
-- column step BIGINT number in the session, from 1
-- column seconds_since_last DOUBLE since the step before, to the millisecond; null for the first
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as this event has it
-- column action VARCHAR what they did
-- column resource VARCHAR to what kind of thing
-- column resource_id VARCHAR to which one
-- column ip_country VARCHAR from which country
-- column ip_address VARCHAR from which address
-- column address_is_new BOOLEAN whether the session came from elsewhere before, and never from this address
-- column id VARCHAR the event's id
WITH steps AS (
    SELECT
        session_id,
        event_time,
        row_number() OVER (PARTITION BY workspace_id, session_id ORDER BY event_time, id) AS step,
        lag(event_time) OVER (PARTITION BY workspace_id, session_id ORDER BY event_time, id) AS last_at,
        workspace_id,
        actor_id,
        actor_name,
        action,
        resource,
        resource_id,
        ip_country,
        ip_address,
        count(ip_address)
            OVER (PARTITION BY workspace_id, session_id ORDER BY event_time, id) AS steps_with_address,
        row_number()
            OVER (PARTITION BY workspace_id, session_id, ip_address ORDER BY event_time, id) AS address_step,
        max(CASE WHEN actor_id = $actor THEN 1 ELSE 0 END)
            OVER (PARTITION BY workspace_id, session_id) AS took_part,
        id
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND session_id IS NOT NULL
        AND ($session IS NULL OR session_id = $session)
)
SELECT
    session_id,
    event_time,
    step,
    round((epoch(event_time) - epoch(last_at)) * 1000) / 1000 AS seconds_since_last,
    workspace_id,
    actor_id,
    actor_name,
    action,
    resource,
    resource_id,
    ip_country,
    ip_address,
    ip_address IS NOT NULL AND address_step = 1 AND steps_with_address > 1 AS address_is_new,
    id
FROM steps
WHERE $actor IS NULL OR took_part = 1
-- Athena keeps milliseconds: there, steps within one millisecond stand in the order of their ids.
ORDER BY workspace_id, session_id, step
