-- title: Unusual volume
-- topic: Suspicious behaviour
-- answers: In which hours did a workspace have far more events than it usually has?
-- when: An alert says ingestion_spike, a bill is too high, or a script is suspected.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param deviations DOUBLE 4 more than the mean by more than so many standard deviations
-- param at_least INTEGER(1..) 50 leave out hours with fewer events
-- param same_hour BOOLEAN true compare with the same hour of the other days; false: with all other hours
-- param history_days INTEGER(0..100000) 14 so many days before since are compared with as well
-- column hour TIMESTAMP WITH TIME ZONE the beginning of the hour, UTC
-- column workspace_id VARCHAR where
-- column events BIGINT how many events in this hour
-- column usual_events DOUBLE the mean of the hours that it is compared with
-- column usual_deviation DOUBLE their standard deviation (of a sample)
-- column deviations DOUBLE how many of these this hour is above the mean; null if the others are all alike
-- column actors BIGINT how many actors took part
-- column actions BIGINT how many different actions
-- column other_hours BIGINT with how many hours it was compared
-- draw: bars events

-- An hour without events has no row here, and counts as 0 all the same: it adds nothing to the sum of
-- the counts and nothing to the sum of their squares, and mean and deviation follow from these two and
-- from the number of hours. A workspace's hours go from that of its first event to that of the last
-- event of any that was asked for. Hours that since or until cut count as they are. silent_periods finds
-- hours with too few events.
WITH hours AS (
    SELECT
        workspace_id,
        date_trunc('hour', event_time) AS hour,
        count(*) AS events,
        count(DISTINCT actor_id) AS actors,
        count(DISTINCT action) AS actions
    FROM events
    WHERE dt BETWEEN CAST(CAST($since - $history_days * INTERVAL '1' DAY AS DATE) AS VARCHAR) AND $until_day
        AND event_time >= $since - $history_days * INTERVAL '1' DAY AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
    GROUP BY workspace_id, date_trunc('hour', event_time)
),
placed AS (
    SELECT
        hours.*,
        CASE WHEN $same_hour THEN extract(hour FROM hour) ELSE 0 END AS alike,
        CASE WHEN $same_hour THEN 86400 ELSE 3600 END AS step,
        epoch(hour) AS seconds,
        epoch(min(hour) OVER (PARTITION BY workspace_id)) AS first_seconds,
        epoch(max(hour) OVER ()) AS last_seconds
    FROM hours
),
sums AS (
    -- Of the hours it is compared with, itself left out: how many, the sum, the sum of squares.
    SELECT
        placed.*,
        floor((seconds - first_seconds) / step) + floor((last_seconds - seconds) / step) AS others,
        CAST(sum(events) OVER (PARTITION BY workspace_id, alike) - events AS DOUBLE) AS total,
        CAST(sum(events * events) OVER (PARTITION BY workspace_id, alike) - events * events AS DOUBLE)
            AS squares
    FROM placed
),
compared AS (
    SELECT
        sums.*,
        total / nullif(others, 0) AS mean,
        -- The sample's variance; with fewer than two other hours there is none.
        CASE WHEN others > 1 THEN (squares - total * total / others) / (others - 1) END AS variance
    FROM sums
),
measured AS (
    SELECT
        compared.*,
        -- Rounding may leave a little less than nothing.
        CASE WHEN variance > 0 THEN sqrt(variance) WHEN variance <= 0 THEN 0 END AS deviation
    FROM compared
)
SELECT
    hour,
    workspace_id,
    events,
    round(mean, 2) AS usual_events,
    round(deviation, 2) AS usual_deviation,
    round((events - mean) / nullif(deviation, 0), 2) AS deviations,
    actors,
    actions,
    CAST(others AS BIGINT) AS other_hours
FROM measured
WHERE hour >= date_trunc('hour', $since)
    AND events >= $at_least
    AND events > mean + $deviations * deviation
ORDER BY hour, workspace_id
