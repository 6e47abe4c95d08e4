-- title: Grants of privileges
-- answers: Who gave whom which rights, and who gave them to themselves?
-- when: In every access review, and after any account was taken over.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param only_to_self BOOLEAN false only grants of which the actor is a target
WITH grants AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, resource_id, ip_country, id,
        CASE WHEN json_valid(targets) THEN json_extract_string(targets, '$[*].id') END AS given_to,
        CASE WHEN json_valid(targets) THEN json_extract_string(targets, '$[*].metadata.role') END AS roles
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
        AND (
            action LIKE 'role.%' OR action LIKE 'permission.%' OR action LIKE 'api_key.%'
            OR action IN ('user.invited', 'member.added')
        )
)
SELECT
    event_time,
    workspace_id,
    actor_id,
    actor_name,
    action,
    array_to_string(given_to, ', ') AS given_to,
    coalesce(nullif(array_to_string(roles, ', '), ''), resource_id) AS given,
    coalesce(list_contains(given_to, actor_id), false) AS is_to_self,
    ip_country,
    id
FROM grants
WHERE NOT $only_to_self OR coalesce(list_contains(given_to, actor_id), false)
ORDER BY is_to_self DESC, event_time, id
