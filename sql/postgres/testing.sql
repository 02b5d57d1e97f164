-- For pandora_db.testing only: nothing of this runs on a database that new_test_db() did not make.
-- name: drop_test_schema :script
DROP SCHEMA IF EXISTS {schema} CASCADE

-- TRUNCATE is refused by the tables themselves.
-- name: reset_tables :script
DELETE FROM {schema}.jobs;
DELETE FROM {schema}.job_deletions;
SELECT setval('{schema}.job_ids', 1, FALSE)
