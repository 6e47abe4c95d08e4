-- title: Events per day and action
-- answers: How much of what happened on each day, and by how many actors?
-- when: To know what is usual, and to see a gap or a spike.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
SELECT
    CAST(event_time AT TIME ZONE 'UTC' AS DATE) AS day,
    action,
    count(*) AS events,
    count(DISTINCT actor_id) AS actors,
    count(DISTINCT workspace_id) AS workspaces
FROM events
WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
GROUP BY day, action
ORDER BY day, events DESC, action
