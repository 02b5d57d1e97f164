-- What only this engine needs.

-- PostgreSQL takes the same rows by COPY, which has no text. A crowd of insert_job is stored so too.
-- name: load_jobs :batch
INSERT INTO {schema}.jobs (
    job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
    message_id, channel_id, author_id, guild_id, external_id, idempotency_key, priority, config,
    name, tags, concurrency_key, not_before, max_attempts, params, created_at, updated_at
)
VALUES (
    :job_id, :author, :requested_at, :job_type, :preset, :preset_concat, :link, :directory, :ready,
    :message_id, :channel_id, :author_id, :guild_id, :external_id, :idempotency_key, :priority,
    :config, :name, :tags, :concurrency_key, :not_before, :max_attempts, :params, :created_at, :updated_at
)

-- name: record_inserted :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
VALUES (:job_id, 1, :at, {INSERTED}, :stage, 0, :operation_id)

-- A rollback takes the counter back; the numbers it gave out must not come again.
-- name: last_reserved_id :one
SELECT {next_id} - 1

-- name: keep_reserved_ids :none
UPDATE {schema}.job_ids SET value = :value WHERE value < :value

-- The id that the next insert would be given.
-- name: next_job_id :one
SELECT {next_id}

-- A crowd of update_stage, and what it leaves in the history: every call changed its row.
-- name: update_stages :batch
UPDATE {schema}.jobs
SET ready = op.stage, event_seq = event_seq + 1, updated_at = {now},
    attempt = CASE WHEN op.restarts AND ready <> op.stage THEN 0 ELSE attempt END,
    lease_token = NULL, lease_owner = NULL, lease_until = NULL
FROM (
    SELECT column1 AS id, column2 AS stage, column3 AS lowest, column4 AS highest, column5 AS restarts
    FROM (VALUES (:job_id, :stage, :lowest, :highest, :restarts))
) AS op
WHERE job_id = op.id AND ready BETWEEN op.lowest AND op.highest
  AND (ready <> op.stage OR lease_token IS NOT NULL)

-- name: record_stages :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, event_seq, updated_at, {STAGE}, ready, attempt, op.column2
FROM (VALUES (:job_id, :operation_id)) AS op CROSS JOIN {schema}.jobs ON job_id = op.column1

-- A crowd of end_claim, where no job was to be cancelled.
-- name: end_claims :batch
UPDATE {schema}.jobs
SET ready = op.stage, archived = op.archived,
    completed_at = CASE WHEN op.archived THEN coalesce(completed_at, {now}) ELSE completed_at END,
    hold = CASE WHEN op.archived THEN 0 ELSE hold END,
    attempt = op.attempt_left, not_before = {now_seconds} + op.delay,
    error = CASE WHEN op.keep_error THEN jobs.error ELSE op.error END,
    output_kind = coalesce(op.output_kind, jobs.output_kind),
    output = coalesce(op.output, jobs.output), output_file = coalesce(op.output_file, jobs.output_file),
    lease_token = NULL, lease_owner = NULL, lease_until = NULL,
    event_seq = event_seq + 1, updated_at = {now}
FROM (
    SELECT column1 AS id, column2 AS token, column3 AS stage, column4 AS archived, column5 AS cancelled,
           column6 AS attempt_left, column7 AS delay, column8 AS keep_error, column9 AS error,
           column10 AS output_kind, column11 AS output, column12 AS output_file
    FROM (VALUES (
        :job_id, :token, :stage, :archived, :cancelled, :attempt_left, :delay, :keep_error, :error,
        :output_kind, :output, :output_file
    ))
) AS op
WHERE job_id = op.id AND lease_token = op.token AND (hold <> 2 OR op.cancelled IS NULL)

-- The same where all calls end in one way, without an output.
-- name: end_claims_alike :batch
UPDATE {schema}.jobs
SET ready = :stage, archived = :archived,
    completed_at = CASE WHEN :archived THEN coalesce(completed_at, {now}) ELSE completed_at END,
    hold = CASE WHEN :archived THEN 0 ELSE hold END,
    attempt = op.column3, not_before = {now_seconds} + :delay,
    error = CASE WHEN :keep_error THEN error ELSE :error END,
    lease_token = NULL, lease_owner = NULL, lease_until = NULL,
    event_seq = event_seq + 1, updated_at = {now}
FROM (VALUES (:job_id, :token, :attempt_left)) AS op
WHERE job_id = op.column1 AND lease_token = op.column2 AND (hold <> 2 OR :cancelled IS NULL)

-- name: record_ends :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
SELECT job_id, event_seq, updated_at, op.column2, ready, op.column3, op.column4, op.column5, op.column6
FROM (VALUES (:job_id, :kind, :attempt, :owner, :operation_id, :detail)) AS op
CROSS JOIN {schema}.jobs ON job_id = op.column1

-- name: drop_ended :batch
DELETE FROM {schema}.job_checkpoints
WHERE rowid IN (
    SELECT checkpoint.rowid FROM (VALUES (:job_id, :drop, :worked)) AS op
    CROSS JOIN {schema}.job_checkpoints AS checkpoint ON checkpoint.job_id = op.column1
    WHERE op.column2 = 2 OR op.column2 = 1 AND checkpoint.stage = op.column3
)
