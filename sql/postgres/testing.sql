-- For pandora_db.testing only: nothing of this runs on a database that new_test_db() did not make.
-- name: drop_test_schema :script
DROP SCHEMA IF EXISTS {schema} CASCADE

-- TRUNCATE is refused by the tables themselves.
-- name: reset_tables :script
DELETE FROM {schema}.jobs;
DELETE FROM {schema}.job_deletions;
DELETE FROM {schema}.recovery_policies;
SELECT setval('{schema}.job_ids', 1, FALSE)

-- name: next_due :one
SELECT min(not_before) - {now_seconds} FROM {schema}.jobs
WHERE ready = :stage::smallint AND NOT archived AND hold <> 1 AND not_before > {now_seconds}
{claim_filters}

-- name: skip_time :none
UPDATE {schema}.jobs SET not_before = not_before - :seconds::double precision
WHERE NOT archived AND not_before IS NOT NULL
