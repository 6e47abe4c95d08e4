-- title: New countries of actors
-- topic: Logins
-- answers: Who came from a country that they had not come from before?
-- when: As a daily look, and when credentials may be in other hands.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param history_days INTEGER(0..100000) 90 a country seen at most so many days before since is not new
-- param action VARCHAR NULL look only at actions like this; % is any text, _ any character
-- column first_at TIMESTAMP WITH TIME ZONE when they first came from there
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR a name of theirs from there, the last in the alphabet if there are several
-- column ip_country VARCHAR the new country
-- column ip_city VARCHAR a city there, the last in the alphabet if there are several
-- column events BIGINT how many events came from there
-- column addresses BIGINT from how many addresses
-- column last_at TIMESTAMP WITH TIME ZONE the last of them
-- column countries_before BIGINT how many other countries they had come from before that
-- column usual_country VARCHAR where most of their events came from, history and the new country included
WITH seen AS (
    SELECT
        workspace_id,
        actor_id,
        ip_country,
        max(actor_name) AS actor_name,
        max(ip_city) AS ip_city,
        count(*) AS events,
        count(DISTINCT ip_address) AS addresses,
        min(event_time) AS first_at,
        max(event_time) AS last_at
    FROM events
    WHERE dt >= CAST(CAST($since - $history_days * INTERVAL '1' DAY AS DATE) AS VARCHAR)
        AND dt <= $until_day
        AND event_time >= $since - $history_days * INTERVAL '1' DAY
        AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND ($action IS NULL OR action LIKE $action)
        AND ip_country IS NOT NULL
        AND actor_id IS NOT NULL
    GROUP BY workspace_id, actor_id, ip_country
),
ranked AS (
    SELECT
        workspace_id,
        actor_id,
        ip_country,
        actor_name,
        ip_city,
        events,
        addresses,
        first_at,
        last_at,
        -- Of countries first seen at the same moment, none was before the other. Athena keeps
        -- milliseconds: there, that is the same millisecond.
        rank() OVER (PARTITION BY workspace_id, actor_id ORDER BY first_at) - 1 AS countries_before,
        row_number() OVER (PARTITION BY workspace_id, actor_id ORDER BY events DESC, ip_country) AS place
    FROM seen
),
compared AS (
    SELECT
        workspace_id,
        actor_id,
        ip_country,
        actor_name,
        ip_city,
        events,
        addresses,
        first_at,
        last_at,
        countries_before,
        max(CASE WHEN place = 1 THEN ip_country END)
            OVER (PARTITION BY workspace_id, actor_id) AS usual_country
    FROM ranked
)
SELECT
    first_at,
    workspace_id,
    actor_id,
    actor_name,
    ip_country,
    ip_city,
    events,
    addresses,
    last_at,
    countries_before,
    usual_country
FROM compared
WHERE countries_before > 0
    AND first_at >= $since
ORDER BY first_at, workspace_id, actor_id, ip_country
