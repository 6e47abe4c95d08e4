-- title: Tenant report
-- topic: Overview
-- answers: What went on in each tenant: how much, by how many, from where, and how much of it was delicate?
-- when: A customer or an auditor asks for a summary of a period.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param tenant VARCHAR NULL only this tenant; without it all, and what belongs to none
-- param failures VARCHAR '%failed' actions like this, capitals or not, are failures; % is any text
-- param deletions VARCHAR '%.delete%' actions like this delete
-- param exports VARCHAR '%.export%' actions like this export
-- column workspace_id VARCHAR where
-- column tenant_id VARCHAR the tenant; null for what belongs to none
-- column first_at TIMESTAMP WITH TIME ZONE its first event
-- column last_at TIMESTAMP WITH TIME ZONE its last
-- column days BIGINT on how many days, in UTC, anything happened
-- column events BIGINT how many events
-- column actors BIGINT by how many actors
-- column actions BIGINT how many different actions
-- column countries BIGINT from how many countries
-- column addresses BIGINT from how many addresses
-- column failures BIGINT how many of the events were failures
-- column deletions BIGINT how many deleted
-- column exports BIGINT how many exported
-- draw: bars events
SELECT
    workspace_id,
    tenant_id,
    min(event_time) AS first_at,
    max(event_time) AS last_at,
    count(DISTINCT dt) AS days,
    count(*) AS events,
    count(DISTINCT actor_id) AS actors,
    count(DISTINCT action) AS actions,
    count(DISTINCT ip_country) AS countries,
    count(DISTINCT ip_address) AS addresses,
    count(CASE WHEN lower(action) LIKE lower($failures) THEN 1 END) AS failures,
    count(CASE WHEN lower(action) LIKE lower($deletions) THEN 1 END) AS deletions,
    count(CASE WHEN lower(action) LIKE lower($exports) THEN 1 END) AS exports
FROM events
WHERE dt BETWEEN $since_day AND $until_day
    AND event_time >= $since AND event_time < $until
    AND ($workspace IS NULL OR workspace = $workspace)
    AND ($tenant IS NULL OR tenant_id = $tenant)
GROUP BY workspace_id, tenant_id
ORDER BY workspace_id, tenant_id NULLS LAST
