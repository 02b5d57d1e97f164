-- What only this engine needs.

-- PostgreSQL takes the same rows by COPY, which has no text.
-- name: load_jobs :batch
INSERT INTO {schema}.jobs (
    job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
    message_id, channel_id, created_at, author_id, guild_id, external_id, idempotency_key,
    priority, config, operation_id, updated_at
)
VALUES (
    :job_id, :author, :requested_at, :job_type, :preset, :preset_concat, :link, :directory, :ready,
    :message_id, :channel_id, :created_at, :author_id, :guild_id, :external_id, :idempotency_key,
    :priority, :config, :operation_id, :updated_at
)

-- A rollback takes the counter back; the numbers it gave out must not come again.
-- name: last_reserved_id :one
SELECT value FROM {schema}.job_ids

-- name: keep_reserved_ids :one
UPDATE {schema}.job_ids SET value = max(value, :value)
