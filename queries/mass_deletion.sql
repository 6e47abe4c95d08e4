-- title: Mass deletion
-- topic: Suspicious behaviour
-- answers: Who deleted how much within a short time?
-- when: Something is missing, an account was taken over, or somebody is about to leave.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param action VARCHAR '%delete%' actions like this are deletions, in small letters or not; % is any text, _ any character
-- param also VARCHAR '%terminate%' and so are actions like this; '%.exported' finds who takes much along
-- param at_least INTEGER(1..) 25 so many deletions, or more
-- param within_minutes INTEGER(0..10000000) 15 in a window so long, wherever it begins
-- column first_at TIMESTAMP WITH TIME ZONE the first deletion of the burst
-- column last_at TIMESTAMP WITH TIME ZONE the last of it
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR a name of theirs, the last in the alphabet if there are several
-- column deletions BIGINT how many in the burst
-- column resources BIGINT how many different resources, as far as events name one
-- column actions BIGINT how many different actions
-- column an_action VARCHAR one of them, the first in the alphabet
-- column countries BIGINT from how many countries
-- column ip_country VARCHAR one of them, the first in the alphabet
-- column first_id VARCHAR id of the first deletion
-- draw: bars deletions

-- Windows that overlap are one burst. Athena keeps milliseconds: a window that is met to the
-- microsecond may be met or missed there.
WITH deletions AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, resource, resource_id, ip_country, id,
        row_number() OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS number,
        lag(event_time, $at_least - 1) OVER (
            PARTITION BY workspace_id, actor_id ORDER BY event_time, id
        ) AS window_start
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND actor_id IS NOT NULL
        AND (lower(action) LIKE lower($action) OR lower(action) LIKE lower($also))
),
full_windows AS (
    -- Each deletion that ends a window with enough of them in it.
    SELECT
        workspace_id, actor_id,
        number AS last_number,
        number - $at_least + 1 AS first_number,
        lag(number) OVER (PARTITION BY workspace_id, actor_id ORDER BY number) AS last_number_before
    FROM deletions
    WHERE event_time <= window_start + $within_minutes * INTERVAL '1' MINUTE
),
numbered_windows AS (
    SELECT
        full_windows.*,
        -- One more at each window that does not overlap the one before.
        sum(CASE WHEN first_number <= last_number_before THEN 0 ELSE 1 END) OVER (
            PARTITION BY workspace_id, actor_id ORDER BY last_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS burst
    FROM full_windows
),
bursts AS (
    SELECT
        workspace_id, actor_id, burst,
        min(first_number) AS first_number,
        max(last_number) AS last_number
    FROM numbered_windows
    GROUP BY workspace_id, actor_id, burst
)
SELECT
    min(deletions.event_time) AS first_at,
    max(deletions.event_time) AS last_at,
    bursts.workspace_id,
    bursts.actor_id,
    max(deletions.actor_name) AS actor_name,
    count(*) AS deletions,
    count(DISTINCT coalesce(deletions.resource, '') || ':' || deletions.resource_id) AS resources,
    count(DISTINCT deletions.action) AS actions,
    min(deletions.action) AS an_action,
    count(DISTINCT deletions.ip_country) AS countries,
    min(deletions.ip_country) AS ip_country,
    min(CASE WHEN deletions.number = bursts.first_number THEN deletions.id END) AS first_id
FROM bursts
INNER JOIN deletions
    ON deletions.workspace_id = bursts.workspace_id
    AND deletions.actor_id = bursts.actor_id
    AND deletions.number BETWEEN bursts.first_number AND bursts.last_number
GROUP BY bursts.workspace_id, bursts.actor_id, bursts.burst
ORDER BY first_at, bursts.workspace_id, bursts.actor_id
