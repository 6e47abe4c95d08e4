-- title: Logins that succeeded after many failures
-- topic: Logins
-- answers: Whose password was probably guessed: many failed logins, then one that worked?
-- when: After a brute-force alert, and before believing that an account is still its owner's.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param failed VARCHAR '%login_failed' actions like this are failed logins; % is any text, _ any character
-- param succeeded VARCHAR '%.login' actions like this are logins that worked
-- param at_least INTEGER(1..) 10 at least so many failures before the success
-- param within_minutes INTEGER(0..10000000) 60 the failures lie at most so long before the success, before since too
-- column succeeded_at TIMESTAMP WITH TIME ZONE when the login worked
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as the success has it
-- column failures BIGINT how many attempts failed before
-- column from_same_address BIGINT how many of them came from the address of the success; 0 may be the owner
-- column addresses BIGINT from how many addresses they came
-- column first_failure_at TIMESTAMP WITH TIME ZONE the first of them
-- column last_failure_at TIMESTAMP WITH TIME ZONE the last of them
-- column ip_country VARCHAR the country that the success came from
-- column ip_address VARCHAR its address
-- column session_id VARCHAR its session; session_timeline tells what was done with it
-- column id VARCHAR its id
-- draw: bars failures
WITH logins AS (
    SELECT
        workspace_id,
        actor_id,
        actor_name,
        event_time,
        action LIKE $failed AS is_failure,
        ip_country,
        ip_address,
        session_id,
        id
    FROM events
    WHERE dt >= CAST(CAST($since - $within_minutes * INTERVAL '1' MINUTE AS DATE) AS VARCHAR)
        AND dt <= $until_day
        AND event_time >= $since - $within_minutes * INTERVAL '1' MINUTE
        AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        -- Where one action tells both, as signin.ConsoleLogin does, its metadata says which it was:
        -- json_extract_string(metadata, '$.responseElements.ConsoleLogin') = 'Failure'
        AND (action LIKE $failed OR action LIKE $succeeded)
)
SELECT
    success.event_time AS succeeded_at,
    success.workspace_id,
    success.actor_id,
    success.actor_name,
    count(*) AS failures,
    count(CASE WHEN failure.ip_address = success.ip_address THEN 1 END) AS from_same_address,
    count(DISTINCT failure.ip_address) AS addresses,
    min(failure.event_time) AS first_failure_at,
    max(failure.event_time) AS last_failure_at,
    success.ip_country,
    success.ip_address,
    success.session_id,
    success.id
FROM logins AS success
INNER JOIN logins AS failure
    ON failure.workspace_id = success.workspace_id
    AND failure.actor_id = success.actor_id
    -- Athena keeps milliseconds: there, a failure in the millisecond of the success does not count.
    AND failure.event_time < success.event_time
    AND failure.event_time >= success.event_time - $within_minutes * INTERVAL '1' MINUTE
WHERE failure.is_failure
    AND NOT success.is_failure
    AND success.event_time >= $since
GROUP BY
    success.event_time,
    success.workspace_id,
    success.actor_id,
    success.actor_name,
    success.ip_country,
    success.ip_address,
    success.session_id,
    success.id
HAVING count(*) >= $at_least
ORDER BY failures DESC, succeeded_at, success.workspace_id, success.id
