-- For pandora_db.testing only: nothing of this runs on a database that new_test_db() did not make.
-- A file has one schema; it is the file that comes and goes.
-- name: drop_test_schema :script
SELECT 1

-- name: reset_tables :script
DELETE FROM {schema}.jobs;
DELETE FROM {schema}.job_deletions;
DELETE FROM {schema}.recovery_policies;
UPDATE {schema}.job_ids SET value = 0

-- name: next_due :one
SELECT min(not_before) - {now_seconds} FROM {schema}.jobs
WHERE ready = :stage AND NOT archived AND hold <> 1 AND not_before > {now_seconds}
{claim_filters}

-- name: skip_time :none
UPDATE {schema}.jobs SET not_before = not_before - :seconds WHERE NOT archived AND not_before IS NOT NULL
