-- The transaction has the only write turn already.
-- name: lock_job :maybe
SELECT ready, coalesce(archived, FALSE), hold, error, event_seq, lease_token, lease_owner, NULL, job_type
FROM {schema}.jobs WHERE job_id = :job_id

-- name: find_child :maybe
SELECT child_id FROM {schema}.job_children WHERE parent_id = :parent_id AND key = :key

-- name: record_child :none
INSERT INTO {schema}.job_children (parent_id, key, child_id) VALUES (:parent_id, :key, :child_id)

-- name: find_children :many
SELECT child_id FROM {schema}.job_children WHERE parent_id = :parent_id ORDER BY child_id

-- name: get_children :many
SELECT {job_columns} FROM {schema}.jobs
WHERE job_id IN (SELECT child_id FROM {schema}.job_children WHERE parent_id = :parent_id)
ORDER BY job_id

-- name: get_parent :maybe
SELECT parent_id FROM {schema}.job_children WHERE child_id = :job_id
