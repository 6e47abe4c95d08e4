-- title: Events per day and action
-- topic: Overview
-- answers: How much of what happened on each day, and by how many actors?
-- when: To know what is usual, and to see a gap or a spike.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param action VARCHAR NULL only actions like this; % is any text, _ any character
-- column day DATE the day, in UTC
-- column action VARCHAR what was done
-- column events BIGINT how often
-- column actors BIGINT by how many actors; one id in two workspaces is two
-- column workspaces BIGINT in how many workspaces
-- draw: sparkline events by action
WITH counted AS (
    SELECT dt, action, workspace_id, actor_id, count(*) AS events
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND ($action IS NULL OR action LIKE $action)
    GROUP BY dt, action, workspace_id, actor_id
)
SELECT
    CAST(dt AS DATE) AS day,
    action,
    CAST(sum(events) AS BIGINT) AS events,
    count(actor_id) AS actors,
    count(DISTINCT workspace_id) AS workspaces
FROM counted
GROUP BY dt, action
ORDER BY day, events DESC, action NULLS LAST
