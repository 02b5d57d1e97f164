-- What only this engine needs.

-- PostgreSQL takes the same rows by COPY, which has no text. A crowd of insert_job is stored so too.
-- name: load_jobs :batch
INSERT INTO {schema}.jobs (
    job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
    message_id, channel_id, author_id, guild_id, external_id, idempotency_key, priority, config,
    created_at, updated_at
)
VALUES (
    :job_id, :author, :requested_at, :job_type, :preset, :preset_concat, :link, :directory, :ready,
    :message_id, :channel_id, :author_id, :guild_id, :external_id, :idempotency_key, :priority,
    :config, :created_at, :updated_at
)

-- name: record_inserted :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
VALUES (:job_id, 1, :at, 1, :stage, 0, :operation_id)

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
    lease_token = NULL, lease_owner = NULL, lease_until = NULL
FROM (
    SELECT column1 AS id, column2 AS stage, column3 AS lowest, column4 AS highest
    FROM (VALUES (:job_id, :stage, :lowest, :highest))
) AS op
WHERE job_id = op.id AND ready BETWEEN op.lowest AND op.highest
  AND (ready <> op.stage OR lease_token IS NOT NULL)

-- name: record_stages :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, event_seq, updated_at, 2, ready, attempt, op.column2
FROM (VALUES (:job_id, :operation_id)) AS op CROSS JOIN {schema}.jobs ON job_id = op.column1
