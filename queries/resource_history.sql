-- title: History of a resource
-- topic: Who did what
-- answers: Who did what to this thing, and when?
-- when: Something was changed, shared or deleted, and the question is by whom.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param resource_id VARCHAR NULL the thing's id, exactly; without it, all things
-- param resource VARCHAR NULL only things of this kind, such as document; not asked of targets and metadata
-- param action VARCHAR NULL only actions like this; % is any text, _ any character
-- column event_time TIMESTAMP WITH TIME ZONE when
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as this event has it
-- column action VARCHAR what they did
-- column found_in VARCHAR resource: it was done to this thing; targets, metadata: its id stands in there
-- column resource VARCHAR what kind of thing it was done to
-- column resource_id VARCHAR to which one
-- column resource_name VARCHAR its name, as this event has it
-- column ip_country VARCHAR from which country
-- column ip_address VARCHAR from which address
-- column session_id VARCHAR in which session
-- column id VARCHAR the event's id
WITH read AS (
    SELECT
        event_time,
        workspace_id,
        actor_id,
        actor_name,
        action,
        resource,
        resource_id,
        resource_name,
        targets,
        -- Half an emoji in a text is valid to JSON's grammar, and an error to DuckDB's parser.
        CASE WHEN json_valid(targets) THEN targets END AS parsed,
        metadata,
        ip_country,
        ip_address,
        session_id,
        id
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND ($action IS NULL OR action LIKE $action)
),
found AS (
    SELECT
        event_time,
        workspace_id,
        actor_id,
        actor_name,
        action,
        CASE
            WHEN ($resource_id IS NULL OR resource_id = $resource_id)
                AND ($resource IS NULL OR resource = $resource) THEN 'resource'
            -- The text finds an id wherever it stands as written, at any depth; the paths also find
            -- one that JSON escapes, among the first five targets.
            WHEN replace(targets, '"' || $resource_id || '"', '') <> targets
                OR json_extract_string(parsed, '$[0].id') = $resource_id
                OR json_extract_string(parsed, '$[1].id') = $resource_id
                OR json_extract_string(parsed, '$[2].id') = $resource_id
                OR json_extract_string(parsed, '$[3].id') = $resource_id
                OR json_extract_string(parsed, '$[4].id') = $resource_id THEN 'targets'
            WHEN replace(metadata, '"' || $resource_id || '"', '') <> metadata THEN 'metadata'
        END AS found_in,
        resource,
        resource_id,
        resource_name,
        ip_country,
        ip_address,
        session_id,
        id
    FROM read
)
SELECT
    event_time,
    workspace_id,
    actor_id,
    actor_name,
    action,
    found_in,
    resource,
    resource_id,
    resource_name,
    ip_country,
    ip_address,
    session_id,
    id
FROM found
WHERE found_in IS NOT NULL
-- Athena keeps milliseconds: there, events within one millisecond stand in the order of their ids.
ORDER BY event_time, workspace_id, id
