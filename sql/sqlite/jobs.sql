-- fragment: job_columns
job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
message_id, channel_id, created_at, completed_at, coalesce(archived, 0) AS archived,
author_id, guild_id, external_id, idempotency_key, priority, attempt, hold,
progress, progress_data, current_step, output_kind, output, output_file,
error, config, updated_at,
name, tags, concurrency_key, not_before, max_attempts, params

-- fragment: now
strftime('%Y-%m-%d %H:%M:%f', 'now')

-- Above every id that is stored, was deleted, or was given out by number (job_ids): what is stored
-- counts itself, so an insert need not write a counter. Discord's ids, and all where JSON readers
-- soon lose digits, do not count.
-- fragment: next_id
(SELECT 1 + max(
    value,
    coalesce((SELECT max(job_id) FROM {schema}.jobs WHERE job_id < 4503599627370496), 0),
    coalesce((SELECT max(job_id) FROM {schema}.job_deletions WHERE job_id < 4503599627370496), 0)
) FROM {schema}.job_ids)

-- No answer is lost inside a process: only an operation id that the caller knows is worth an index.
-- The answer is a statement of its own: RETURNING costs three times as much.
-- name: insert_job :batch
INSERT INTO {schema}.jobs (
    job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
    message_id, channel_id, author_id, guild_id, external_id, idempotency_key, priority, config,
    name, tags, concurrency_key, not_before, max_attempts, params,
    operation_id,   -- when: repeated
    updated_at
)
VALUES (
    coalesce(:job_id, {next_id}), :author,
    coalesce(:requested_at, CAST(strftime('%s', 'now') AS INTEGER)), :job_type, :preset,
    :preset_concat, :link, :directory, :ready, :message_id, :channel_id, :author_id, :guild_id,
    :external_id, :idempotency_key, :priority, :config, :name, :tags, :concurrency_key,
    :not_before, :max_attempts, :params,
    :operation_id,   -- when: repeated
    {now}
)
ON CONFLICT DO NOTHING;
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT last_insert_rowid(), 1, {now}, {INSERTED}, :ready, 0, :operation_id WHERE changes() = 1;
SELECT job_id FROM {schema}.job_events WHERE event_id = last_insert_rowid() AND changes() = 1

-- Why insert_job stored nothing: the operation was done, the key is known, an id is taken.
-- name: find_insert :one
SELECT (SELECT job_id FROM {schema}.jobs WHERE operation_id = :operation_id),
       (SELECT job_id FROM {schema}.jobs WHERE idempotency_key = :idempotency_key),
       EXISTS (SELECT 1 FROM {schema}.jobs WHERE job_id = :job_id),
       EXISTS (SELECT 1 FROM {schema}.jobs WHERE external_id = :external_id)

-- A transaction of SQLite has the only write turn already; the count cannot change under it.
-- name: lock_queue :one
SELECT 0

-- name: count_active_up_to :one
SELECT count(*) FROM (SELECT 1 FROM {schema}.jobs WHERE NOT archived LIMIT :limit)

-- name: get_next_job_id :batch
UPDATE {schema}.job_ids SET value = {next_id} - 1 + :count RETURNING value

-- name: reserve_job_ids :one
UPDATE {schema}.job_ids SET value = {next_id} - 1 + :count RETURNING value - :count + 1, value, NULL

-- name: find_taken_between :many
SELECT job_id FROM {schema}.jobs WHERE job_id BETWEEN :first AND :last

-- name: find_taken_ids :many
SELECT job_id FROM {schema}.jobs WHERE job_id IN (SELECT value FROM json_each(:job_ids))

-- name: stamp :one
SELECT CAST(strftime('%s', 'now') AS INTEGER), {now}, {now}

-- The events of the jobs that load() brought in. Their operations are numbered on, by their order.
-- name: record_loaded :one
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, 1, updated_at, {INSERTED}, ready, 0, :head || printf('%012x', :tail + loaded.key)
FROM json_each(:job_ids) AS loaded CROSS JOIN {schema}.jobs ON job_id = loaded.value;
SELECT changes()

-- A run of ids need not be looked up one by one.
-- name: record_loaded_between :one
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, 1, updated_at, {INSERTED}, ready, 0, :head || printf('%012x', :tail + job_id - :first)
FROM {schema}.jobs WHERE job_id BETWEEN :first AND :last;
SELECT changes()

-- An operation that may have been done before is not done again, even if the job has moved on.
-- fragment: not_done
NOT EXISTS (SELECT 1 FROM {schema}.job_events AS event WHERE event.job_id = :job_id AND event.operation_id = :operation_id)

-- name: update_stage :batch
UPDATE {schema}.jobs
SET ready = :stage, event_seq = event_seq + 1, updated_at = {now},
    attempt = CASE WHEN :restarts AND ready <> :stage THEN 0 ELSE attempt END,
    lease_token = NULL, lease_owner = NULL, lease_until = NULL
WHERE job_id = :job_id AND ready BETWEEN :lowest AND :highest
  AND (ready <> :stage OR lease_token IS NOT NULL)
  AND {not_done}   -- when: repeated
;
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, event_seq, updated_at, {STAGE}, ready, attempt, :operation_id
FROM {schema}.jobs WHERE job_id = :job_id AND changes() = 1;
SELECT :job_id WHERE changes() = 1

-- name: archive_job :batch
UPDATE {schema}.jobs
SET archived = 1, completed_at = coalesce(completed_at, {now}), event_seq = event_seq + 1,
    updated_at = {now}, hold = 0, lease_token = NULL, lease_owner = NULL, lease_until = NULL
WHERE job_id = :job_id AND archived IS NOT TRUE
  AND {not_done}   -- when: repeated
;
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
SELECT job_id, event_seq, updated_at, {ARCHIVED}, ready, attempt, :operation_id
FROM {schema}.jobs WHERE job_id = :job_id AND changes() = 1;
SELECT :job_id WHERE changes() = 1

-- Retry, requeue, cancel, decline, pause and resume: what the caller saw (`event_seq`) must still hold.
-- Who is cancelled or declined needs no checkpoint any more; who goes back is nowhere yet, and keeps its notes.
-- name: move_job :batch
UPDATE {schema}.jobs
SET ready = :stage, archived = :archived, hold = :hold, error = :error,
    completed_at = CASE WHEN :archived THEN coalesce(completed_at, {now}) END,
    progress = CASE WHEN ready = :stage OR :archived THEN progress END,
    current_step = CASE WHEN ready = :stage OR :archived THEN current_step END,
    progress_data = CASE WHEN ready = :stage OR :archived THEN progress_data
                         WHEN json_type(progress_data, '$.notes') IS NOT NULL
                         THEN json_object('notes', json_extract(progress_data, '$.notes')) END,
    attempt = CASE WHEN ready = :stage THEN attempt ELSE 0 END,
    not_before = CASE WHEN ready = :stage THEN not_before END,
    lease_token = CASE WHEN ready = :stage THEN lease_token END,
    lease_owner = CASE WHEN ready = :stage THEN lease_owner END,
    lease_until = CASE WHEN ready = :stage THEN lease_until END,
    event_seq = event_seq + 1, updated_at = {now}
WHERE job_id = :job_id AND event_seq = :event_seq;
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id, detail)
SELECT job_id, event_seq, updated_at, :kind, ready, attempt, :operation_id, :detail
FROM {schema}.jobs WHERE job_id = :job_id AND changes() = 1;
SELECT :job_id WHERE changes() = 1;
DELETE FROM {schema}.job_checkpoints WHERE job_id = :job_id AND :kind IN ({CANCELLED}, {DECLINED}) AND changes() = 1

-- `fields` says which columns were given, a bit each: NULL is a value like any other.
-- Progress alone is no event; the counter then stays where it is.
-- name: update_job :batch
UPDATE {schema}.jobs
SET author_id     = CASE WHEN :fields & 1 THEN :author_id ELSE author_id END,
    guild_id      = CASE WHEN :fields & 2 THEN :guild_id ELSE guild_id END,
    message_id    = CASE WHEN :fields & 4 THEN :message_id ELSE message_id END,
    channel_id    = CASE WHEN :fields & 8 THEN :channel_id ELSE channel_id END,
    priority      = CASE WHEN :fields & 16 THEN :priority ELSE priority END,
    directory     = CASE WHEN :fields & 32 THEN :directory ELSE directory END,
    progress      = CASE WHEN :fields & 64 THEN :progress ELSE progress END,
    progress_data = CASE WHEN :fields & 128 THEN :progress_data ELSE progress_data END,
    current_step  = CASE WHEN :fields & 256 THEN :current_step ELSE current_step END,
    output_kind   = CASE WHEN :fields & 512 THEN :output_kind ELSE output_kind END,
    output        = CASE WHEN :fields & 1024 THEN :output ELSE output END,
    output_file   = CASE WHEN :fields & 2048 THEN :output_file ELSE output_file END,
    error         = CASE WHEN :fields & 4096 THEN :error ELSE error END,
    config        = CASE WHEN :fields & 8192 THEN :config ELSE config END,
    tags          = CASE WHEN :fields & 16384 THEN :tags ELSE tags END,
    concurrency_key = CASE WHEN :fields & 32768 THEN :concurrency_key ELSE concurrency_key END,
    not_before    = CASE WHEN :fields & 65536 THEN :not_before ELSE not_before END,
    max_attempts  = CASE WHEN :fields & 131072 THEN :max_attempts ELSE max_attempts END,
    event_seq     = event_seq + :event,
    updated_at    = {now}
WHERE job_id = :job_id AND (:token IS NULL OR lease_token = :token)
  AND {not_done}   -- when: repeated
RETURNING job_id;
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
SELECT job_id, event_seq, updated_at, {UPDATED}, ready, attempt, :owner, :operation_id, :detail
FROM {schema}.jobs WHERE job_id = :job_id AND :event = 1 AND changes() = 1

-- The trigger wrote the line of the deletion; it cannot know whose operation it was.
-- name: delete_job :batch
DELETE FROM {schema}.jobs WHERE job_id = :job_id
  AND NOT EXISTS (SELECT 1 FROM {schema}.job_deletions WHERE job_id = :job_id AND operation_id = :operation_id)   -- when: repeated
;
UPDATE {schema}.job_deletions SET operation_id = :operation_id
WHERE deletion_id = (SELECT max(deletion_id) FROM {schema}.job_deletions) AND changes() = 1
RETURNING job_id

-- What a write that changed nothing met, and whether its operation had been done before.
-- name: find_state :maybe
SELECT ready, coalesce(archived, 0), hold, error, event_seq, lease_token, lease_owner,
       (SELECT kind FROM {schema}.job_events AS event
        WHERE event.job_id = job.job_id AND event.operation_id = :operation_id LIMIT 1), job_type
FROM {schema}.jobs AS job WHERE job_id = :job_id

-- name: find_deletion :maybe
SELECT deletion_id FROM {schema}.job_deletions
WHERE job_id = :job_id AND operation_id = :operation_id

-- name: get_job :maybe
SELECT {job_columns} FROM {schema}.jobs WHERE job_id = :job_id

-- name: get_jobs_by_ids :many
SELECT {job_columns} FROM {schema}.jobs WHERE job_id IN (SELECT value FROM json_each(:job_ids))

-- NULLS FIRST and NULLS LAST are said here where PostgreSQL does so by itself.
-- name: get_jobs_by_stage :many
SELECT {job_columns} FROM {schema}.jobs
WHERE ready = :stage AND NOT archived
ORDER BY requested_at NULLS LAST, job_id

-- name: get_active_jobs :many
SELECT {job_columns} FROM {schema}.jobs WHERE NOT coalesce(archived, TRUE) ORDER BY requested_at NULLS LAST, job_id

-- name: get_queue_length :one
SELECT count(*) FROM {schema}.jobs WHERE NOT archived

-- name: get_user_history :many
SELECT {job_columns} FROM {schema}.jobs
WHERE author = :author         -- when: by_name
WHERE author_id = :author_id   -- when: by_id
ORDER BY requested_at DESC NULLS FIRST, job_id DESC LIMIT :limit

-- name: get_completed_jobs :many
SELECT {job_columns} FROM {schema}.jobs
WHERE archived
ORDER BY completed_at DESC, job_id DESC LIMIT :limit

-- fragment: row_filters
AND ready = :stage                                        -- when: stage
AND ready IN (SELECT value FROM json_each(:stages))       -- when: stages
AND hold = 1                                              -- when: paused
AND hold <> 1                                             -- when: not_paused
AND job_type = :job_type                                  -- when: job_type

-- fragment: time_filters
AND requested_at >= :since                                -- when: since
AND requested_at < :until                                 -- when: until

-- fragment: job_page
AND (requested_at, job_id) < (:after_requested_at, :after_job_id)   -- when: after
AND (requested_at IS NOT NULL OR job_id < :after_job_id)             -- when: after_null
ORDER BY requested_at DESC NULLS FIRST, job_id DESC
LIMIT :limit OFFSET :offset

-- `NOT coalesce(archived, TRUE)` is said as well, since idx_jobs_active is known by it. coalesce() keeps the
-- planner from an index by author or guild, which has all that they ever asked for.
-- fragment: live_filters
NOT archived AND NOT coalesce(archived, TRUE)
AND coalesce(author = :author, FALSE)                     -- when: author
AND coalesce(author_id = :author_id, FALSE)               -- when: author_id
AND coalesce(guild_id = :guild_id, FALSE)                 -- when: guild_id
{time_filters}
{row_filters}

-- Of the active jobs, whosever they are.
-- name: get_live_jobs :many
SELECT {job_columns} FROM {schema}.jobs
WHERE {live_filters}
{job_page}

-- coalesce(): the index of the archive has it in another order.
-- fragment: list_filters
AND author = :author                                      -- when: author
AND author_id = :author_id                                -- when: author_id
AND guild_id = :guild_id                                  -- when: guild_id
AND coalesce(archived, FALSE)                             -- when: archived
{time_filters}
{row_filters}

-- Of all jobs, of the archive, or of an author or a guild, active and archived. A job that moves leaves the
-- indexes of them as they are.
-- name: get_jobs :many
SELECT {job_columns} FROM {schema}.jobs
WHERE TRUE
{list_filters}
{job_page}

-- name: count_live_jobs :one
SELECT count(*) FROM {schema}.jobs
WHERE {live_filters}

-- name: count_jobs :one
SELECT count(*) FROM {schema}.jobs
WHERE TRUE
{list_filters}

-- name: queue_position :maybe
SELECT job.ready, coalesce(job.archived, 0), (
    SELECT count(*) FROM {schema}.jobs AS ahead
    WHERE ahead.ready = job.ready AND NOT ahead.archived AND {claimable}
      AND ((-ahead.priority), ahead.requested_at, ahead.job_id) < ((-job.priority), job.requested_at, job.job_id)
)
FROM {schema}.jobs AS job WHERE job.job_id = :job_id

-- name: stage_counts :many
SELECT ready, count(*) FROM {schema}.jobs WHERE NOT archived GROUP BY ready ORDER BY ready

-- name: name_counts :many
SELECT name, count(*) FROM {schema}.jobs WHERE ready = :stage AND NOT archived GROUP BY name
