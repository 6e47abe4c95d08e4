-- title: Dormant accounts that wake
-- topic: Suspicious behaviour
-- answers: Who came back after a long silence, and what did they do first?
-- when: To find accounts that nobody missed and somebody else uses, before they are used more.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param dormant_days INTEGER(0..100000) 30 a silence so long, or longer
-- param history_days INTEGER(0..100000) 365 look so many days further back than since for the last sign of life
-- column woke_at TIMESTAMP WITH TIME ZONE the first event after the silence
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as that event has it
-- column silent_days BIGINT whole days of silence
-- column last_seen_at TIMESTAMP WITH TIME ZONE the last event before it
-- column action VARCHAR what they did on waking
-- column ip_country VARCHAR from which country
-- column last_country VARCHAR from which country the last event before it came
-- column events_since BIGINT how much they did from then until the end of the time asked for
-- column id VARCHAR id of the event
-- draw: bars silent_days

-- Whose last sign of life lies further back than history_days is not found. Athena keeps milliseconds:
-- a silence that is met to the microsecond may be met or missed there.
WITH seen AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, ip_country, id,
        lag(event_time) OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS last_seen_at,
        lag(ip_country) OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS last_country,
        row_number() OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS number,
        count(*) OVER (PARTITION BY workspace_id, actor_id) AS events
    FROM events
    WHERE dt BETWEEN CAST(CAST($since - $history_days * INTERVAL '1' DAY AS DATE) AS VARCHAR) AND $until_day
        AND event_time >= $since - $history_days * INTERVAL '1' DAY AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND actor_id IS NOT NULL
)
SELECT
    event_time AS woke_at,
    workspace_id,
    actor_id,
    actor_name,
    CAST(floor((epoch(event_time) - epoch(last_seen_at)) / 86400) AS BIGINT) AS silent_days,
    last_seen_at,
    action,
    ip_country,
    last_country,
    events - number + 1 AS events_since,
    id
FROM seen
WHERE event_time >= $since
    AND event_time >= last_seen_at + $dormant_days * INTERVAL '1' DAY
ORDER BY woke_at, workspace_id, actor_id, id
