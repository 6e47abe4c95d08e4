-- title: Everything an actor did
-- answers: What did this actor do, when, to what, and from where?
-- when: An account is under suspicion, or its owner asks what is known about them.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param actor VARCHAR NULL the actor's id; without it, everybody
SELECT
    event_time,
    action,
    resource,
    resource_id,
    ip_country,
    ip_city,
    ip_address,
    session_id,
    workspace_id,
    id
FROM events
WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
    AND ($actor IS NULL OR actor_id = $actor)
ORDER BY event_time, id
