-- title: Logins that succeeded after many failures
-- answers: Whose password was probably guessed: many failed logins, then one that worked?
-- when: After a brute-force alert, and before believing that an account is still its owner's.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param failures INTEGER 10 at least so many failures before the success
-- param within_minutes INTEGER 60 the failures lie at most so long before the success
WITH logins AS (
    SELECT
        workspace_id, actor_id, actor_name, event_time, ip_country, ip_address, id,
        action LIKE '%failed' AS is_failure
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
        -- "_" is any character, so login.failed as well
        AND (action LIKE '%.login' OR action LIKE '%login_failed')
),
attempts AS (
    SELECT
        success.workspace_id,
        success.actor_id,
        success.actor_name,
        success.event_time AS succeeded_at,
        success.ip_country,
        success.ip_address,
        success.id AS success_id,
        failure.event_time AS failed_at
    FROM logins AS success
    INNER JOIN logins AS failure
        ON failure.workspace_id = success.workspace_id
        AND failure.actor_id = success.actor_id
        AND failure.event_time < success.event_time
        AND failure.event_time >= success.event_time - $within_minutes * INTERVAL '1' MINUTE
    WHERE failure.is_failure AND NOT success.is_failure
)
SELECT
    workspace_id,
    actor_id,
    max(actor_name) AS actor_name,
    count(*) AS failures,
    min(failed_at) AS first_failure_at,
    succeeded_at,
    max(ip_country) AS ip_country,
    max(ip_address) AS ip_address,
    success_id
FROM attempts
GROUP BY workspace_id, actor_id, succeeded_at, success_id
HAVING count(*) >= $failures
ORDER BY failures DESC, succeeded_at, success_id
