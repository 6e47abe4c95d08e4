-- title: Everything an actor did
-- topic: Who did what
-- answers: What did this actor do, when, to what, and from where?
-- when: An account is under suspicion, or its owner asks what is known about them.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param actor VARCHAR NULL the actor's id, exactly; without it, everybody
-- param actor_name VARCHAR NULL only actors with a name like this, capitals or not; % is any text
-- param action VARCHAR NULL only actions like this; % is any text, _ any character
-- column event_time TIMESTAMP WITH TIME ZONE when
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as this event has it
-- column action VARCHAR what they did
-- column resource VARCHAR to what kind of thing
-- column resource_id VARCHAR to which one
-- column resource_name VARCHAR its name
-- column ip_country VARCHAR from which country
-- column ip_city VARCHAR from which city
-- column ip_address VARCHAR from which address
-- column session_id VARCHAR in which session; session_timeline tells all of it
-- column id VARCHAR the event's id
SELECT
    event_time,
    workspace_id,
    actor_id,
    actor_name,
    action,
    resource,
    resource_id,
    resource_name,
    ip_country,
    ip_city,
    ip_address,
    session_id,
    id
FROM events
WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
    AND ($actor IS NULL OR actor_id = $actor)
    AND ($actor_name IS NULL OR lower(actor_name) LIKE lower($actor_name))
    AND ($action IS NULL OR action LIKE $action)
-- Athena keeps milliseconds: there, events within one millisecond stand in the order of their ids.
ORDER BY event_time, workspace_id, id
