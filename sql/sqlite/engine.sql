-- What only this engine needs.

-- PostgreSQL takes the same rows by COPY, which has no text.
-- name: load_jobs :batch
INSERT INTO {schema}.jobs (
    job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
    message_id, channel_id, created_at, author_id, guild_id, external_id, idempotency_key,
    priority, config, updated_at
)
VALUES (
    :job_id, :author, :requested_at, :job_type, :preset, :preset_concat, :link, :directory, :ready,
    :message_id, :channel_id, :created_at, :author_id, :guild_id, :external_id, :idempotency_key,
    :priority, :config, :updated_at
)

-- A rollback takes the counter back; the numbers it gave out must not come again.
-- name: last_reserved_id :one
SELECT {next_id} - 1

-- name: keep_reserved_ids :none
UPDATE {schema}.job_ids SET value = :value WHERE value < :value

-- The id that the next insert would be given.
-- name: next_job_id :one
SELECT {next_id}

-- What a crowd of insert_job, and of update_stage, leaves in the history: every call changed its row.
-- name: record_inserted :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
VALUES (:job_id, 1, {now}, 1, :ready, 0, :operation_id)

-- name: record_stage :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, event_seq, updated_at, 2, ready, attempt, :operation_id
FROM {schema}.jobs WHERE job_id = :job_id
