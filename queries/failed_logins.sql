-- title: Failed logins
-- topic: Logins
-- answers: Who failed to log in most often, from where, and between when?
-- when: As a daily look, and first of all when somebody reports a locked account.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param action VARCHAR '%login_failed' actions like this are failed logins; % is any text, _ any character
-- param at_least INTEGER(1..) 5 leave out who failed less often from one country
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR a name of theirs, the last in the alphabet if there are several
-- column ip_country VARCHAR the country that the attempts came from
-- column failures BIGINT how many attempts failed
-- column addresses BIGINT from how many addresses
-- column first_at TIMESTAMP WITH TIME ZONE the first of them
-- column last_at TIMESTAMP WITH TIME ZONE the last of them
-- draw: bars failures
SELECT
    workspace_id,
    actor_id,
    max(actor_name) AS actor_name,
    ip_country,
    count(*) AS failures,
    count(DISTINCT ip_address) AS addresses,
    min(event_time) AS first_at,
    max(event_time) AS last_at
FROM events
WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
    AND action LIKE $action
GROUP BY workspace_id, actor_id, ip_country
HAVING count(*) >= $at_least
ORDER BY failures DESC, workspace_id, actor_id NULLS LAST, ip_country NULLS LAST
