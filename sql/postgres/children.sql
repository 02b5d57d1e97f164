-- Kept as it is until the transaction ends.
-- name: lock_job :maybe
SELECT ready, coalesce(archived, FALSE), hold, error, event_seq, lease_token, lease_owner, NULL, job_type
FROM {schema}.jobs WHERE job_id = :job_id::bigint
FOR NO KEY UPDATE

-- name: find_child :maybe
SELECT child_id FROM {schema}.job_children WHERE parent_id = :parent_id::bigint AND key = :key::text

-- name: record_child :none
INSERT INTO {schema}.job_children (parent_id, key, child_id) VALUES (:parent_id::bigint, :key::text, :child_id::bigint)

-- name: find_children :many
SELECT child_id FROM {schema}.job_children WHERE parent_id = :parent_id::bigint ORDER BY child_id

-- name: get_children :many
SELECT {job_columns} FROM {schema}.jobs
WHERE job_id = ANY(ARRAY(SELECT child_id FROM {schema}.job_children WHERE parent_id = :parent_id::bigint))
ORDER BY job_id

-- name: get_parent :maybe
SELECT parent_id FROM {schema}.job_children WHERE child_id = :job_id::bigint
