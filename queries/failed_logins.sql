-- title: Failed logins
-- answers: Who failed to log in most often, from where, and between when?
-- when: As a daily look, and first of all when somebody reports a locked account.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param at_least INTEGER 5 leave out who failed less often
WITH parameters AS (
    SELECT
        TIMESTAMPTZ '1970-01-01 00:00:00+00' AS since,
        TIMESTAMPTZ '2100-01-01 00:00:00+00' AS until,
        5 AS at_least
)
SELECT
    workspace_id,
    actor_id,
    max(actor_name) AS actor_name,
    ip_country,
    count(*) AS failures,
    count(DISTINCT ip_address) AS addresses,
    min(event_time) AS first_at,
    max(event_time) AS last_at
FROM events, parameters
WHERE event_time >= since AND event_time < until
    AND action LIKE '%login_failed'  -- "_" is any character, so login.failed as well
GROUP BY workspace_id, actor_id, ip_country
HAVING count(*) >= max(at_least)
ORDER BY failures DESC, workspace_id, actor_id, ip_country
LIMIT 20;
