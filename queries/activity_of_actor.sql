-- title: Everything an actor did
-- answers: What did this actor do, when, to what, and from where?
-- when: An account is under suspicion, or its owner asks what is known about them.
-- param actor VARCHAR '' the actor's id; empty for the actor of the most deletions and exports
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
WITH parameters AS (
    SELECT
        '' AS actor,
        TIMESTAMPTZ '1970-01-01 00:00:00+00' AS since,
        TIMESTAMPTZ '2100-01-01 00:00:00+00' AS until
),
most_destructive AS (
    SELECT actor_id
    FROM events, parameters
    WHERE event_time >= since AND event_time < until
        AND (action LIKE '%.deleted' OR action LIKE '%.exported')
    GROUP BY actor_id
    ORDER BY count(*) DESC, actor_id
    LIMIT 1
),
chosen AS (
    SELECT coalesce(nullif(actor, ''), (SELECT actor_id FROM most_destructive)) AS actor
    FROM parameters
)
SELECT
    event_time,
    action,
    resource,
    resource_id,
    ip_country,
    ip_city,
    ip_address,
    session_id,
    workspace_id,
    id
FROM events, parameters
WHERE actor_id = (SELECT actor FROM chosen)
    AND event_time >= since AND event_time < until
ORDER BY event_time, id
LIMIT 10000;
