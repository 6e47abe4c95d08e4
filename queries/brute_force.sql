-- title: Brute force, by address and by actor
-- topic: Logins
-- answers: Which addresses tried many logins in a short time, and which actors were tried, and when?
-- when: To tell an attack from typing errors: one address against many actors, or many addresses against one.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param action VARCHAR '%login_failed' actions like this are failed logins; % is any text, _ any character
-- param at_least INTEGER(1..) 20 at least so many within one window
-- param window_minutes INTEGER(0..10000000) 60 length of the window; a pause that is longer ends the attack
-- column kind VARCHAR address: what one address tried; actor: what was tried on one actor
-- column workspace_id VARCHAR where
-- column name VARCHAR the address, or the actor's id
-- column failures BIGINT how many attempts failed from the first to the last, without a pause
-- column actors BIGINT on how many actors
-- column addresses BIGINT from how many addresses
-- column ip_country VARCHAR a country that they came from, the last in the alphabet if there are several
-- column first_at TIMESTAMP WITH TIME ZONE the first of them
-- column last_at TIMESTAMP WITH TIME ZONE the last of them
-- draw: bars failures
WITH failed AS (
    SELECT workspace_id, actor_id, ip_address, ip_country, event_time, id
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND action LIKE $action
),
tried AS (
    SELECT
        'address' AS kind, ip_address AS name,
        workspace_id, actor_id, ip_address, ip_country, event_time, id
    FROM failed
    WHERE ip_address IS NOT NULL
    UNION ALL
    SELECT
        'actor' AS kind, actor_id AS name,
        workspace_id, actor_id, ip_address, ip_country, event_time, id
    FROM failed
    WHERE actor_id IS NOT NULL
),
ordered AS (
    SELECT
        kind,
        workspace_id,
        name,
        actor_id,
        ip_address,
        ip_country,
        event_time,
        id,
        lag(event_time) OVER (PARTITION BY kind, workspace_id, name ORDER BY event_time, id) AS last_at,
        -- the first of the at_least attempts that this one completes
        lag(event_time, $at_least - 1)
            OVER (PARTITION BY kind, workspace_id, name ORDER BY event_time, id) AS opened_at
    FROM tried
),
marked AS (
    SELECT
        kind,
        workspace_id,
        name,
        actor_id,
        ip_address,
        ip_country,
        event_time,
        id,
        -- null, and so 0, where there are not so many; null, and so 1, where it is the first of all
        CASE WHEN opened_at >= event_time - $window_minutes * INTERVAL '1' MINUTE THEN 1 ELSE 0 END AS many,
        CASE WHEN last_at >= event_time - $window_minutes * INTERVAL '1' MINUTE THEN 0 ELSE 1 END AS begins
    FROM ordered
),
numbered AS (
    SELECT
        kind,
        workspace_id,
        name,
        actor_id,
        ip_address,
        ip_country,
        event_time,
        many,
        sum(begins) OVER (PARTITION BY kind, workspace_id, name ORDER BY event_time, id) AS attack
    FROM marked
)
SELECT
    kind,
    workspace_id,
    name,
    count(*) AS failures,
    count(DISTINCT actor_id) AS actors,
    count(DISTINCT ip_address) AS addresses,
    max(ip_country) AS ip_country,
    min(event_time) AS first_at,
    max(event_time) AS last_at
FROM numbered
GROUP BY kind, workspace_id, name, attack
HAVING max(many) = 1
ORDER BY failures DESC, first_at, kind, workspace_id, name
