-- title: Mass deletion
-- answers: Who deleted or exported unusually much in a short time?
-- when: Something is missing, an account was taken over, or somebody is about to leave.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param at_least INTEGER 25 at least so many within one window
-- param window_minutes INTEGER 15 length of the window
WITH destructive AS (
    SELECT
        workspace_id, actor_id, actor_name, action, event_time, ip_country,
        to_timestamp(
            floor(epoch(event_time) / (60 * $window_minutes)) * 60 * $window_minutes
        ) AS window_start
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
        AND (action LIKE '%.deleted' OR action LIKE '%.exported')
)
SELECT
    window_start,
    workspace_id,
    actor_id,
    max(actor_name) AS actor_name,
    count(*) FILTER (WHERE action LIKE '%.deleted') AS deleted,
    count(*) FILTER (WHERE action LIKE '%.exported') AS exported,
    max(ip_country) AS ip_country,
    min(event_time) AS first_at,
    max(event_time) AS last_at
FROM destructive
GROUP BY window_start, workspace_id, actor_id
HAVING count(*) >= $at_least
ORDER BY window_start, workspace_id, actor_id
