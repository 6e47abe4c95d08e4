-- title: Silent periods
-- topic: The stream itself
-- answers: When was a workspace, or the whole stream, silent for much longer than it usually is?
-- when: A stream stopped and was started again, events are missed, or an audit asks for gaps.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param at_least_minutes INTEGER(0..10000000) 60 leave out shorter silences
-- param times_usual DOUBLE 20 and those shorter than so many times the usual one; 0 leaves none out
-- param history_days INTEGER(0..100000) 7 look so many days further back than since for the last event before it
-- column silent_from TIMESTAMP WITH TIME ZONE the last event before the silence
-- column silent_until TIMESTAMP WITH TIME ZONE the next event; while there is none, the end of what is known
-- column workspace_id VARCHAR of which workspace; null is all together
-- column minutes BIGINT whole minutes of silence
-- column usual_minutes DOUBLE the mean time between two events of the same workspace
-- column is_over BOOLEAN whether an event followed; false: up to the end of what is known there was none
-- draw: bars minutes

-- What is known ends at until or, if that is earlier, at the last event of any workspace: nobody can tell
-- a silence of all that lasts from an archive that ends there. A silence that began before since counts
-- from its beginning, if that lies in the history.
WITH minutes AS (
    -- No silence of a minute or more fits into one, so its first and its last event say enough.
    SELECT
        workspace_id,
        floor(epoch(event_time) / 60) AS minute,
        min(event_time) AS first_at,
        max(event_time) AS last_at,
        count(*) AS events
    FROM events
    WHERE dt BETWEEN CAST(CAST($since - $history_days * INTERVAL '1' DAY AS DATE) AS VARCHAR) AND $until_day
        AND event_time >= $since - $history_days * INTERVAL '1' DAY AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
    GROUP BY workspace_id, floor(epoch(event_time) / 60)
),
known AS (
    -- Null, and so no silence, where nothing is known from the day of since on.
    SELECT CASE WHEN max(event_time) < $until THEN max(event_time) WHEN max(event_time) >= $until THEN $until END
            AS known_until
    FROM events
    WHERE dt >= $since_day
),
streams AS (
    SELECT workspace_id, false AS is_all, minute, first_at, last_at, events
    FROM minutes
    UNION ALL
    SELECT
        CAST(NULL AS VARCHAR) AS workspace_id,
        true AS is_all,
        minute,
        min(first_at) AS first_at,
        max(last_at) AS last_at,
        CAST(sum(events) AS BIGINT) AS events
    FROM minutes
    WHERE $workspace IS NULL
    GROUP BY minute
),
steps AS (
    SELECT
        streams.*,
        lead(first_at) OVER (PARTITION BY is_all, workspace_id ORDER BY minute) AS next_at,
        min(first_at) OVER (PARTITION BY is_all, workspace_id) AS earliest_at,
        max(last_at) OVER (PARTITION BY is_all, workspace_id) AS latest_at,
        sum(events) OVER (PARTITION BY is_all, workspace_id) AS all_events
    FROM streams
),
silences AS (
    SELECT
        steps.last_at AS silent_from,
        coalesce(steps.next_at, known.known_until) AS silent_until,
        steps.workspace_id,
        epoch(coalesce(steps.next_at, known.known_until)) - epoch(steps.last_at) AS seconds,
        (epoch(steps.latest_at) - epoch(steps.earliest_at)) / nullif(steps.all_events - 1, 0)
            AS usual_seconds,
        steps.next_at IS NOT NULL AS is_over
    FROM steps
    CROSS JOIN known
)
SELECT
    silent_from,
    silent_until,
    workspace_id,
    CAST(floor(seconds / 60) AS BIGINT) AS minutes,
    round(usual_seconds / 60, 2) AS usual_minutes,
    is_over
FROM silences
WHERE silent_until > $since
    AND seconds >= 60 * $at_least_minutes
    AND ($times_usual = 0 OR seconds >= $times_usual * usual_seconds)
ORDER BY minutes DESC, silent_from, workspace_id NULLS FIRST
