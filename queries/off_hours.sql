-- title: Off hours
-- topic: Suspicious behaviour
-- answers: Who was active at night or at the weekend, though they usually are not?
-- when: In a review of accounts that belong to people, and when an alert says off_hours.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param from_hour INTEGER(0..23) 7 working hours begin at this hour
-- param to_hour INTEGER(0..24) 19 and end at this one; before from_hour it is one of the next day
-- param utc_offset_minutes INTEGER(-1440..1440) 0 the clock of the place is so many minutes ahead of UTC, 330 in India
-- param weekend BOOLEAN true Saturdays and Sundays are off hours, all day
-- param action VARCHAR '%' only actions like this; % is any text, _ any character
-- param at_least INTEGER(1..) 1 leave out who did less in a night
-- param usual_nights INTEGER 3 leave out who was active in more of the nights before than this
-- param history_days INTEGER(0..100000) 14 the nights before are those of so many days
-- column night_of DATE the day at whose from_hour the day began that this night ends
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR a name of theirs, the last in the alphabet if there are several
-- column events BIGINT what they did in off hours
-- column actions BIGINT how many different actions
-- column countries BIGINT from how many countries
-- column first_at TIMESTAMP WITH TIME ZONE the first of it
-- column last_at TIMESTAMP WITH TIME ZONE the last of it
-- column nights_before BIGINT in how many of the nights before they were active as well
-- draw: bars events

-- A day begins at from_hour here, so that what is done at two in the morning belongs to the evening
-- before, and Monday at two to the weekend. There is one offset for the whole time: where the clocks
-- change, ask for summer and winter apart.
WITH shifted AS (
    SELECT
        workspace_id, actor_id, actor_name, action, ip_country, event_time,
        event_time + ($utc_offset_minutes - $from_hour * 60) * INTERVAL '1' MINUTE AS moment
    FROM events
    -- A day more: the night in which since lies began the day before.
    WHERE dt BETWEEN CAST(CAST($since - ($history_days + 1) * INTERVAL '1' DAY AS DATE) AS VARCHAR)
            AND $until_day
        AND event_time >= $since - ($history_days + 1) * INTERVAL '1' DAY AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND actor_id IS NOT NULL
        AND action LIKE $action
),
numbered AS (
    -- Days since 1970-01-01, which was a Thursday: of seven, 2 is a Saturday and 3 a Sunday.
    SELECT
        shifted.*,
        CAST(moment AS DATE) AS night_of,
        extract(hour FROM moment) AS hour_of_day,
        floor(epoch(moment) / 86400) AS day_number
    FROM shifted
),
nights AS (
    SELECT
        workspace_id,
        actor_id,
        night_of,
        max(day_number) AS day_number,
        max(CASE WHEN event_time >= $since THEN actor_name END) AS actor_name,
        count(CASE WHEN event_time >= $since THEN 1 END) AS events,
        count(DISTINCT CASE WHEN event_time >= $since THEN action END) AS actions,
        count(DISTINCT CASE WHEN event_time >= $since THEN ip_country END) AS countries,
        min(CASE WHEN event_time >= $since THEN event_time END) AS first_at,
        max(CASE WHEN event_time >= $since THEN event_time END) AS last_at
    FROM numbered
    WHERE hour_of_day >= $to_hour - $from_hour + CASE WHEN $to_hour < $from_hour THEN 24 ELSE 0 END
        OR ($weekend AND day_number - 7 * floor(day_number / 7) IN (2, 3))
    GROUP BY workspace_id, actor_id, night_of
),
earlier AS (
    SELECT night.workspace_id, night.actor_id, night.night_of, count(before.night_of) AS nights_before
    FROM nights AS night
    LEFT JOIN nights AS before
        ON before.workspace_id = night.workspace_id
        AND before.actor_id = night.actor_id
        AND before.day_number < night.day_number
        AND before.day_number >= night.day_number - $history_days
    GROUP BY night.workspace_id, night.actor_id, night.night_of
)
SELECT
    nights.night_of,
    nights.workspace_id,
    nights.actor_id,
    nights.actor_name,
    nights.events,
    nights.actions,
    nights.countries,
    nights.first_at,
    nights.last_at,
    earlier.nights_before
FROM nights
INNER JOIN earlier
    ON earlier.workspace_id = nights.workspace_id
    AND earlier.actor_id = nights.actor_id
    AND earlier.night_of = nights.night_of
WHERE nights.events > 0 AND nights.events >= $at_least AND earlier.nights_before <= $usual_nights
ORDER BY nights.night_of, nights.events DESC, nights.workspace_id, nights.actor_id
