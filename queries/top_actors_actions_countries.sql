-- title: Top actors, actions and countries
-- topic: Overview
-- answers: Who did most, what was done most, and from which countries did most come?
-- when: As a first look at an archive or a day that one does not know.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param limit INTEGER(1..) 10 so many of each
-- column ranking VARCHAR actors, actions or countries
-- column place BIGINT from 1; of equals, the first in the alphabet goes first
-- column workspace_id VARCHAR the actor's workspace; null for actions and countries, counted over all
-- column name VARCHAR the actor's id, the action, or the country; null is unknown
-- column actor_name VARCHAR a name of the actor, the last in the alphabet if there are several
-- column events BIGINT how many events
-- column percent DOUBLE of all events, to a tenth
-- column first_at TIMESTAMP WITH TIME ZONE the first of them
-- column last_at TIMESTAMP WITH TIME ZONE the last of them
-- draw: bars events
WITH counted AS (
    SELECT
        workspace_id,
        actor_id,
        action,
        ip_country,
        max(actor_name) AS actor_name,
        count(*) AS events,
        min(event_time) AS first_at,
        max(event_time) AS last_at
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
    GROUP BY workspace_id, actor_id, action, ip_country
),
named AS (
    SELECT 'actors' AS ranking, workspace_id, actor_id AS name, actor_name, events, first_at, last_at
    FROM counted
    UNION ALL
    SELECT 'actions', CAST(NULL AS VARCHAR), action, CAST(NULL AS VARCHAR), events, first_at, last_at
    FROM counted
    UNION ALL
    SELECT 'countries', CAST(NULL AS VARCHAR), ip_country, CAST(NULL AS VARCHAR), events, first_at, last_at
    FROM counted
),
added AS (
    SELECT
        ranking,
        workspace_id,
        name,
        max(actor_name) AS actor_name,
        CAST(sum(events) AS BIGINT) AS events,
        min(first_at) AS first_at,
        max(last_at) AS last_at
    FROM named
    GROUP BY ranking, workspace_id, name
),
placed AS (
    SELECT
        ranking,
        row_number() OVER (
            PARTITION BY ranking ORDER BY events DESC, name NULLS LAST, workspace_id NULLS LAST
        ) AS place,
        workspace_id,
        name,
        actor_name,
        events,
        CAST(sum(events) OVER (PARTITION BY ranking) AS DOUBLE) AS all_events,
        first_at,
        last_at
    FROM added
)
SELECT
    ranking,
    place,
    workspace_id,
    name,
    actor_name,
    events,
    round(1000 * CAST(events AS DOUBLE) / all_events) / 10 AS percent,
    first_at,
    last_at
FROM placed
WHERE place <= $limit
ORDER BY CASE ranking WHEN 'actors' THEN 1 WHEN 'actions' THEN 2 ELSE 3 END, place
