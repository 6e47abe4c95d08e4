-- title: Delivery delay
-- topic: The stream itself
-- answers: How long does it take from an event to its receipt, and when did it take longer?
-- when: Alerts come late, a sender was down, or a clock is suspected to be wrong.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param late_seconds DOUBLE 300 what took longer than this is late
-- column day DATE the day of the events, UTC
-- column source VARCHAR from which source they came, with the stream behind its name
-- column events BIGINT how many events
-- column median_seconds DOUBLE half of them took so long, or less
-- column p95_seconds DOUBLE 95 of 100 took so long, or less
-- column p99_seconds DOUBLE 99 of 100 took so long, or less
-- column max_seconds DOUBLE what the slowest took
-- column late BIGINT how many took longer than late_seconds
-- column ahead BIGINT how many carry a time after their receipt: a clock is wrong
-- draw: sparkline p95_seconds by source

-- The percentiles are delays that occurred, those of the nearest rank. What an archive in JSON lines
-- does not know, when an event came and from where, it cannot tell: it gives no rows. Of rows of a
-- database it is the time until a run read them, after a first run that of years. Athena keeps
-- milliseconds: delays may differ by one there.
WITH delays AS (
    SELECT
        CAST(event_time AS DATE) AS day,
        source,
        -- Seconds since 1970 are no exact numbers; what is between them is one, to the microsecond.
        round(epoch(received_at) - epoch(event_time), 6) AS seconds
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND received_at IS NOT NULL
),
ranked AS (
    SELECT
        delays.*,
        row_number() OVER (PARTITION BY day, source ORDER BY seconds) AS number,
        count(*) OVER (PARTITION BY day, source) AS events
    FROM delays
)
SELECT
    day,
    source,
    count(*) AS events,
    round(min(CASE WHEN number * 100 >= events * 50 THEN seconds END), 3) AS median_seconds,
    round(min(CASE WHEN number * 100 >= events * 95 THEN seconds END), 3) AS p95_seconds,
    round(min(CASE WHEN number * 100 >= events * 99 THEN seconds END), 3) AS p99_seconds,
    round(max(seconds), 3) AS max_seconds,
    count(CASE WHEN seconds > $late_seconds THEN 1 END) AS late,
    count(CASE WHEN seconds < 0 THEN 1 END) AS ahead
FROM ranked
GROUP BY day, source
ORDER BY day, source NULLS LAST
