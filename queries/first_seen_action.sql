-- title: First-seen actions
-- topic: Suspicious behaviour
-- answers: Who did something for the first time, though they had been active before?
-- when: To see what a stolen account, or a person with new rights, begins to do.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param action VARCHAR '%' only actions like this; % is any text, _ any character
-- param known_days INTEGER(0..100000) 1 only actors who were active so long before; 0 shows new actors as well
-- param history_days INTEGER(0..100000) 90 what was not done for so many days before since is new
-- column first_at TIMESTAMP WITH TIME ZONE when they did it first
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as the first such event has it
-- column action VARCHAR what
-- column others_before BIGINT how many others in the workspace had done it before; 0 is new to all
-- column events BIGINT how often they did it from then on
-- column known_since TIMESTAMP WITH TIME ZONE their first event of any kind within the history
-- column ip_country VARCHAR from which country they did it first
-- column id VARCHAR id of the first such event

-- Athena keeps milliseconds: of two events in one millisecond, the one with the lesser id is the first.
WITH known AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, ip_country, id,
        row_number() OVER (PARTITION BY workspace_id, actor_id, action ORDER BY event_time, id) AS number,
        count(*) OVER (PARTITION BY workspace_id, actor_id, action) AS events,
        min(event_time) OVER (PARTITION BY workspace_id, actor_id) AS known_since
    FROM events
    WHERE dt BETWEEN CAST(CAST($since - $history_days * INTERVAL '1' DAY AS DATE) AS VARCHAR) AND $until_day
        AND event_time >= $since - $history_days * INTERVAL '1' DAY AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND actor_id IS NOT NULL
        AND action IS NOT NULL
),
firsts AS (
    -- One row for each actor and action; those before it by time are of others.
    SELECT
        known.*,
        rank() OVER (PARTITION BY workspace_id, action ORDER BY event_time) - 1 AS others_before
    FROM known
    WHERE number = 1
)
SELECT
    event_time AS first_at,
    workspace_id,
    actor_id,
    actor_name,
    action,
    others_before,
    events,
    known_since,
    ip_country,
    id
FROM firsts
WHERE event_time >= $since
    AND event_time >= known_since + $known_days * INTERVAL '1' DAY
    AND action LIKE $action
ORDER BY others_before, first_at, workspace_id, actor_id, action
