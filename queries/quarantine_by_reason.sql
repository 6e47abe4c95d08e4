-- title: Quarantine by reason
-- topic: The stream itself
-- answers: What was not archived, why, how much of it, and since when?
-- when: A run ended with exit code 3, or `archiver status` counts more in quarantine than before.
-- param since TIMESTAMP '1970-01-01' received from this moment on
-- param until TIMESTAMP '2100-01-01' received up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace, as far as an entry tells of one
-- param reason VARCHAR '%' only reasons like this; % is any text, _ any character
-- column reason VARCHAR why
-- column source VARCHAR where it came from: the configured source
-- column stream VARCHAR and its stream, if it has several
-- column entries BIGINT how many elements or stretches of bytes
-- column workspaces BIGINT of how many workspaces, as far as is known
-- column details BIGINT in how many different ways
-- column first_at TIMESTAMP WITH TIME ZONE when the first of them was received
-- column last_at TIMESTAMP WITH TIME ZONE when the last of them was received
-- column example VARCHAR the name of the newest, for `archiver quarantine show`
-- column example_detail VARCHAR what exactly is wrong with it
-- draw: bars entries

-- The quarantine has no partitions: its time is that of receipt. Entries that were sent through again
-- and moved are not in it any more.
WITH entries AS (
    SELECT
        reason, source, stream, received_at, workspace_id, detail, name,
        row_number() OVER (
            PARTITION BY reason, source, stream ORDER BY received_at DESC, commit DESC, ordinal DESC
        ) AS number
    FROM quarantine
    WHERE received_at >= $since AND received_at < $until
        AND ($workspace IS NULL OR workspace_id = $workspace)
        AND reason LIKE $reason
)
SELECT
    reason,
    source,
    stream,
    count(*) AS entries,
    count(DISTINCT workspace_id) AS workspaces,
    count(DISTINCT detail) AS details,
    min(received_at) AS first_at,
    max(received_at) AS last_at,
    max(CASE WHEN number = 1 THEN name END) AS example,
    max(CASE WHEN number = 1 THEN detail END) AS example_detail
FROM entries
GROUP BY reason, source, stream
ORDER BY entries DESC, reason, source, stream NULLS FIRST
