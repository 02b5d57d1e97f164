-- For pandora_db.testing only: nothing of this runs on a database that new_test_db() did not make.
-- A file has one schema; it is the file that comes and goes.
-- name: drop_test_schema :script
SELECT 1

-- name: reset_tables :script
DELETE FROM {schema}.jobs;
DELETE FROM {schema}.job_deletions;
UPDATE {schema}.job_ids SET value = 0
