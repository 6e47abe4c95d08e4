-- title: Grants of privileges
-- topic: Suspicious behaviour
-- answers: Who gave whom which rights, and who gave them to themselves?
-- when: In every access review, and after any account was taken over.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param action VARCHAR NULL only actions like this, in small letters or not; without it, those that the statement lists
-- param only_to_self BOOLEAN false only where the actor is among those who got something
-- column event_time TIMESTAMP WITH TIME ZONE when
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who gave
-- column actor_name VARCHAR their name
-- column action VARCHAR what was done
-- column given_to VARCHAR who got it: the ids of the first five targets, else whom an AWS request names
-- column given VARCHAR what they got: the targets' roles, else what an AWS request names, else the resource
-- column is_to_self BOOLEAN whether the actor is one of them
-- column has_more_targets BOOLEAN whether there are targets behind the first five, which are not shown
-- column ip_country VARCHAR from which country
-- column id VARCHAR id of the event

-- Targets are read one by one: what engines have for lists differs. Of an action that takes rights away
-- as well as giving them, as ec2.ModifySnapshotAttribute does, look at the event itself.
WITH grants AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, resource_id, ip_country, id,
        -- Half an emoji in a text is valid to JSON's grammar, and an error to DuckDB's parser.
        CASE WHEN json_valid(targets) THEN targets END AS targets,
        CASE WHEN json_valid(metadata) THEN metadata END AS metadata
    FROM events
    WHERE dt BETWEEN $since_day AND $until_day
        AND event_time >= $since AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND CASE
            WHEN $action IS NOT NULL THEN lower(action) LIKE lower($action)
            ELSE (
                -- Immutable's style of names.
                lower(action) LIKE '%.granted' OR lower(action) LIKE 'role.%'
                OR lower(action) LIKE 'permission.%' OR lower(action) LIKE 'api_key.%'
                OR lower(action) LIKE 'user.invited' OR lower(action) LIKE 'member.%'
                -- What AWS calls the operations that give rights, or a way to use them.
                OR lower(action) LIKE 'iam.attach%policy' OR lower(action) LIKE 'iam.put%policy'
                OR lower(action) LIKE 'iam.createuser' OR lower(action) LIKE 'iam.createaccesskey'
                OR lower(action) LIKE 'iam.createloginprofile' OR lower(action) LIKE 'iam.updateloginprofile'
                OR lower(action) LIKE 'iam.createpolicyversion' OR lower(action) LIKE 'iam.add%to%'
                OR lower(action) LIKE 'iam.setdefaultpolicyversion'
                OR lower(action) LIKE 'iam.updateassumerolepolicy'
                OR lower(action) LIKE 's3.putbucketpolicy' OR lower(action) LIKE 's3.put%acl'
                OR lower(action) LIKE 'lambda.addpermission%'
                OR lower(action) LIKE 'ec2.modifyimageattribute'
                OR lower(action) LIKE 'ec2.modifysnapshotattribute'
                OR lower(action) LIKE 'rds.modifydb%snapshotattribute'
                OR lower(action) LIKE 'rolesanywhere.create%'
            )
            AND lower(action) NOT LIKE '%revoked' AND lower(action) NOT LIKE '%removed'
            AND lower(action) NOT LIKE '%deleted' AND lower(action) NOT LIKE '%expired'
        END
),
parts AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, resource_id, ip_country, id,
        json_extract_string(targets, '$[0].id') AS id_1,
        json_extract_string(targets, '$[1].id') AS id_2,
        json_extract_string(targets, '$[2].id') AS id_3,
        json_extract_string(targets, '$[3].id') AS id_4,
        json_extract_string(targets, '$[4].id') AS id_5,
        json_extract_string(targets, '$[5].type') AS sixth,  -- the one member that each target has
        json_extract_string(targets, '$[0].metadata.role') AS role_1,
        json_extract_string(targets, '$[1].metadata.role') AS role_2,
        json_extract_string(targets, '$[2].metadata.role') AS role_3,
        json_extract_string(targets, '$[3].metadata.role') AS role_4,
        json_extract_string(targets, '$[4].metadata.role') AS role_5,
        json_extract_string(metadata, '$.requestParameters.userName') AS aws_user,
        coalesce(
            json_extract_string(metadata, '$.requestParameters.roleName'),
            json_extract_string(metadata, '$.requestParameters.groupName'),
            json_extract_string(metadata, '$.requestParameters.principal')
        ) AS aws_other,
        coalesce(
            json_extract_string(metadata, '$.requestParameters.policyArn'),
            json_extract_string(metadata, '$.requestParameters.policyName'),
            json_extract_string(metadata, '$.requestParameters.action'),
            json_extract_string(metadata, '$.responseElements.accessKey.accessKeyId'),
            json_extract_string(metadata, '$.requestParameters.snapshotId'),
            json_extract_string(metadata, '$.requestParameters.imageId'),
            json_extract_string(metadata, '$.requestParameters.dBSnapshotIdentifier'),
            json_extract_string(metadata, '$.requestParameters.bucketName')
        ) AS aws_given
    FROM grants
),
joined AS (
    SELECT
        parts.*,
        coalesce(', ' || id_1, '') || coalesce(', ' || id_2, '') || coalesce(', ' || id_3, '')
            || coalesce(', ' || id_4, '') || coalesce(', ' || id_5, '') AS ids,
        coalesce(', ' || role_1, '') || coalesce(', ' || role_2, '') || coalesce(', ' || role_3, '')
            || coalesce(', ' || role_4, '') || coalesce(', ' || role_5, '') AS roles,
        coalesce(actor_id IN (id_1, id_2, id_3, id_4, id_5), false)
            OR coalesce(actor_name = aws_user, false) AS is_to_self
    FROM parts
)
SELECT
    event_time,
    workspace_id,
    actor_id,
    actor_name,
    action,
    coalesce(nullif(substr(ids, 3), ''), aws_user, aws_other) AS given_to,
    coalesce(nullif(substr(roles, 3), ''), aws_given, resource_id) AS given,
    is_to_self,
    sixth IS NOT NULL AS has_more_targets,
    ip_country,
    id
FROM joined
WHERE is_to_self OR NOT $only_to_self
ORDER BY is_to_self DESC, event_time, workspace_id, id
