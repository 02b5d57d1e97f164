-- fragment: job_columns
job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
message_id, channel_id, created_at AT TIME ZONE 'UTC' AS created_at,
completed_at AT TIME ZONE 'UTC' AS completed_at, coalesce(archived, FALSE) AS archived,
author_id, guild_id, external_id, idempotency_key, priority, attempt, hold,
progress, progress_data::text, current_step, output_kind, output::text, output_file,
error, config::text, updated_at,
name, tags::text, concurrency_key, not_before, max_attempts, params

-- The two parts of an insert from `op`. Between them stands which calls are passed over, and their order.
-- fragment: insert_begun
stored AS (
    INSERT INTO {schema}.jobs (
        job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
        message_id, channel_id, created_at, author_id, guild_id, external_id, idempotency_key,
        priority, config, name, tags, concurrency_key, not_before, max_attempts, params,
        operation_id, updated_at
    )
    SELECT coalesce(job_id, nextval('{schema}.job_ids')), author,
           coalesce(requested_at, floor(extract(epoch FROM statement_timestamp()))::bigint),
           job_type, preset, preset_concat, link, directory, ready, message_id, channel_id,
           statement_timestamp() AT TIME ZONE 'UTC', author_id, guild_id, external_id,
           idempotency_key, priority, config::jsonb, name, tags::jsonb, concurrency_key, not_before,
           max_attempts, params, operation_id::uuid, statement_timestamp()
    FROM op

-- fragment: insert_recorded
    RETURNING job_id, author, author_id, guild_id, requested_at, ready, operation_id
), listed AS (
    INSERT INTO {schema}.job_lists (job_id, by_author, by_author_id, by_guild_id, by_request)
    SELECT job_id, author, author_id, guild_id, requested_at FROM stored
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, 1, statement_timestamp(), {INSERTED}, ready, 0, operation_id FROM stored
)
SELECT op.n, stored.job_id
FROM stored JOIN op ON op.operation_id::uuid = stored.operation_id

-- Ids that are taken, keys that are known and operations that were done are left to
-- find_insert: a plain INSERT that fails takes the whole batch with it. LIMIT 1, since a NOT EXISTS
-- may be planned as a join with all events.
-- name: insert_job :batch
WITH op AS MATERIALIZED (
    SELECT * FROM unnest(
        :job_id::bigint[], :author::text[], :requested_at::bigint[], :job_type::smallint[],
        :preset::smallint[], :preset_concat::smallint[], :link::text[], :directory::text[],
        :ready::smallint[], :message_id::bigint[], :channel_id::bigint[], :author_id::bigint[],
        :guild_id::bigint[], :external_id::text[], :idempotency_key::text[], :priority::smallint[],
        :config::text[], :name::text[], :tags::text[], :concurrency_key::text[],
        :not_before::float8[], :max_attempts::smallint[], :params::bytea[], :operation_id::text[]
    ) WITH ORDINALITY AS op (
        job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
        message_id, channel_id, author_id, guild_id, external_id, idempotency_key, priority,
        config, name, tags, concurrency_key, not_before, max_attempts, params, operation_id, n
    )
), {insert_begun}
    WHERE (SELECT job_id FROM {schema}.job_events WHERE kind = {INSERTED} AND operation_id = op.operation_id::uuid LIMIT 1) IS NULL   -- when: repeated
    ORDER BY n
    ON CONFLICT DO NOTHING
{insert_recorded}

-- Why insert_job stored nothing: the operation was done, the key is known, an id is taken.
-- name: find_insert :one
SELECT (SELECT job_id FROM {schema}.job_events WHERE kind = {INSERTED} AND operation_id = :operation_id::text::uuid),
       (SELECT job_id FROM {schema}.jobs WHERE idempotency_key = :idempotency_key::text),
       EXISTS (SELECT FROM {schema}.jobs WHERE job_id = :job_id::bigint),
       EXISTS (SELECT FROM {schema}.jobs WHERE external_id = :external_id::text)

-- name: lock_queue :one
SELECT pg_advisory_xact_lock(hashtext('{schema}.jobs max_active')) IS NULL

-- name: count_active_up_to :one
SELECT count(*) FROM (SELECT FROM {schema}.jobs WHERE NOT archived LIMIT :limit::bigint) AS counted

-- The whole run of numbers is reserved; the last one is as good as any.
-- name: get_next_job_id :batch
SELECT n, (SELECT max(id) FROM (SELECT nextval('{schema}.job_ids') AS id FROM generate_series(1, count)) AS reserved)
FROM unnest(:count::bigint[]) WITH ORDINALITY AS op (count, n)

-- Others may take numbers meanwhile: then the ids are not all between the first and the last.
-- name: reserve_job_ids :one
SELECT min(id), max(id), CASE WHEN max(id) - min(id) + 1 > :count::bigint THEN array_agg(id) END
FROM (SELECT nextval('{schema}.job_ids') AS id FROM generate_series(1, :count::bigint)) AS reserved

-- name: find_taken_between :many
SELECT job_id FROM {schema}.jobs WHERE job_id BETWEEN :first::bigint AND :last::bigint

-- name: find_taken_ids :many
SELECT job_id FROM {schema}.jobs WHERE job_id = ANY(:job_ids::bigint[])

-- name: stamp :one
SELECT floor(extract(epoch FROM statement_timestamp()))::bigint,
       statement_timestamp() AT TIME ZONE 'UTC', statement_timestamp()

-- The events of the jobs that load() brought in, and their lines in the lists, unless a trigger of somebody
-- else had a job listed already. Their operations are numbered on, by their order.
-- name: record_loaded :one
WITH listed AS (
    INSERT INTO {schema}.job_lists (job_id, by_author, by_author_id, by_guild_id, by_request)
    SELECT job_id, author, author_id, guild_id, requested_at
    FROM {schema}.jobs WHERE job_id = ANY(:job_ids::bigint[])
    ON CONFLICT DO NOTHING
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, 1, updated_at, {INSERTED}, ready, 0, (:head::text || lpad(to_hex(:tail::bigint + n - 1), 12, '0'))::uuid
    FROM unnest(:job_ids::bigint[]) WITH ORDINALITY AS loaded (job_id, n) JOIN {schema}.jobs USING (job_id)
    RETURNING 1
)
SELECT count(*) FROM recorded

-- A run of ids need not be looked up one by one.
-- name: record_loaded_between :one
WITH listed AS (
    INSERT INTO {schema}.job_lists (job_id, by_author, by_author_id, by_guild_id, by_request)
    SELECT job_id, author, author_id, guild_id, requested_at
    FROM {schema}.jobs WHERE job_id BETWEEN :first::bigint AND :last::bigint
    ON CONFLICT DO NOTHING
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, 1, updated_at, {INSERTED}, ready, 0, (:head::text || lpad(to_hex(:tail::bigint + job_id - :first::bigint), 12, '0'))::uuid
    FROM {schema}.jobs WHERE job_id BETWEEN :first::bigint AND :last::bigint
    RETURNING 1
)
SELECT count(*) FROM recorded

-- An operation that may have been done before is not done again, even if the job has moved on. A function,
-- for the snapshot: who waited for the job looks again, and sees what was done meanwhile.
-- fragment: not_done
NOT {schema}.was_done(job.job_id, op.operation_id::uuid)

-- name: update_stage :batch
WITH op AS (
    SELECT * FROM unnest(
        :job_id::bigint[], :stage::smallint[], :lowest::smallint[], :highest::smallint[],
        :restarts::boolean[], :operation_id::text[]
    ) WITH ORDINALITY AS op (job_id, stage, lowest, highest, restarts, operation_id, n)
), moved AS (
    UPDATE {schema}.jobs AS job
    SET ready = op.stage, event_seq = job.event_seq + 1, updated_at = statement_timestamp(),
        attempt = CASE WHEN op.restarts AND job.ready <> op.stage THEN 0 ELSE job.attempt END,
        lease_token = NULL, lease_owner = NULL, lease_until = NULL
    FROM op
    WHERE job.job_id = op.job_id AND job.ready BETWEEN op.lowest AND op.highest
      AND (job.ready <> op.stage OR job.lease_token IS NOT NULL)
      AND {not_done}   -- when: repeated
    RETURNING op.n, job.job_id, job.event_seq, job.ready, job.attempt, op.operation_id
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, event_seq, statement_timestamp(), {STAGE}, ready, attempt, operation_id::uuid FROM moved
)
SELECT n, job_id FROM moved

-- name: archive_job :batch
WITH op AS (
    SELECT * FROM unnest(:job_id::bigint[], :operation_id::text[]) WITH ORDINALITY AS op (job_id, operation_id, n)
), moved AS (
    UPDATE {schema}.jobs AS job
    SET archived = TRUE, completed_at = coalesce(job.completed_at, statement_timestamp() AT TIME ZONE 'UTC'),
        event_seq = job.event_seq + 1, updated_at = statement_timestamp(), hold = 0,
        lease_token = NULL, lease_owner = NULL, lease_until = NULL
    FROM op
    WHERE job.job_id = op.job_id AND job.archived IS NOT TRUE
      AND {not_done}   -- when: repeated
    RETURNING op.n, job.job_id, job.event_seq, job.ready, job.attempt, op.operation_id
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, event_seq, statement_timestamp(), {ARCHIVED}, ready, attempt, operation_id::uuid FROM moved
)
SELECT n, job_id FROM moved

-- Retry, requeue, cancel, decline, pause and resume: what the caller saw (`event_seq`) must still hold.
-- Who is cancelled or declined needs no checkpoint any more; who goes back is nowhere yet, and keeps its notes.
-- name: move_job :batch
WITH op AS (
    SELECT * FROM unnest(
        :job_id::bigint[], :event_seq::integer[], :stage::smallint[], :archived::boolean[],
        :hold::smallint[], :error::text[], :kind::smallint[], :detail::text[], :operation_id::text[]
    ) WITH ORDINALITY AS op (job_id, event_seq, stage, archived, hold, error, kind, detail, operation_id, n)
), moved AS (
    UPDATE {schema}.jobs AS job
    SET ready = op.stage, archived = op.archived, hold = op.hold, error = op.error,
        completed_at = CASE WHEN op.archived THEN coalesce(job.completed_at, statement_timestamp() AT TIME ZONE 'UTC') END,
        progress = CASE WHEN job.ready = op.stage OR op.archived THEN job.progress END,
        current_step = CASE WHEN job.ready = op.stage OR op.archived THEN job.current_step END,
        progress_data = CASE WHEN job.ready = op.stage OR op.archived THEN job.progress_data
                             WHEN job.progress_data -> 'notes' IS NOT NULL
                             THEN jsonb_build_object('notes', job.progress_data -> 'notes') END,
        attempt = CASE WHEN job.ready = op.stage THEN job.attempt ELSE 0 END,
        not_before = CASE WHEN job.ready = op.stage THEN job.not_before END,
        lease_token = CASE WHEN job.ready = op.stage THEN job.lease_token END,
        lease_owner = CASE WHEN job.ready = op.stage THEN job.lease_owner END,
        lease_until = CASE WHEN job.ready = op.stage THEN job.lease_until END,
        event_seq = job.event_seq + 1, updated_at = statement_timestamp()
    FROM op
    WHERE job.job_id = op.job_id AND job.event_seq = op.event_seq
    RETURNING op.n, job.job_id, job.event_seq, job.ready, job.attempt, op.kind, op.detail, op.operation_id
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id, detail)
    SELECT job_id, event_seq, statement_timestamp(), kind, ready, attempt, operation_id::uuid, detail FROM moved
), dropped AS (
    SELECT {schema}.drop_checkpoints(array_agg(job_id), array_agg(NULL::smallint)) FROM moved WHERE kind IN ({CANCELLED}, {DECLINED})
)
SELECT n, job_id FROM moved CROSS JOIN dropped

-- `fields` says which columns were given, a bit each: NULL is a value like any other.
-- Progress alone is no event; the counter then stays where it is.
-- name: update_job :batch
WITH op AS (
    SELECT * FROM unnest(
        :job_id::bigint[], :fields::integer[], :author_id::bigint[], :guild_id::bigint[],
        :message_id::bigint[], :channel_id::bigint[], :priority::smallint[], :directory::text[],
        :progress::float8[], :progress_data::text[], :current_step::text[], :output_kind::text[],
        :output::text[], :output_file::text[], :error::text[], :config::text[],
        :tags::text[], :concurrency_key::text[], :not_before::float8[], :max_attempts::smallint[],
        :event::integer[], :detail::text[], :token::bigint[], :owner::text[], :operation_id::text[]
    ) WITH ORDINALITY AS op (
        job_id, fields, author_id, guild_id, message_id, channel_id, priority, directory,
        progress, progress_data, current_step, output_kind, output, output_file, error, config,
        tags, concurrency_key, not_before, max_attempts,
        event, detail, token, owner, operation_id, n
    )
), moved AS (
    UPDATE {schema}.jobs AS job
    SET author_id     = CASE WHEN op.fields & 1 <> 0 THEN op.author_id ELSE job.author_id END,
        guild_id      = CASE WHEN op.fields & 2 <> 0 THEN op.guild_id ELSE job.guild_id END,
        message_id    = CASE WHEN op.fields & 4 <> 0 THEN op.message_id ELSE job.message_id END,
        channel_id    = CASE WHEN op.fields & 8 <> 0 THEN op.channel_id ELSE job.channel_id END,
        priority      = CASE WHEN op.fields & 16 <> 0 THEN op.priority ELSE job.priority END,
        directory     = CASE WHEN op.fields & 32 <> 0 THEN op.directory ELSE job.directory END,
        progress      = CASE WHEN op.fields & 64 <> 0 THEN op.progress ELSE job.progress END,
        progress_data = CASE WHEN op.fields & 128 <> 0 THEN op.progress_data::jsonb ELSE job.progress_data END,
        current_step  = CASE WHEN op.fields & 256 <> 0 THEN op.current_step ELSE job.current_step END,
        output_kind   = CASE WHEN op.fields & 512 <> 0 THEN op.output_kind ELSE job.output_kind END,
        output        = CASE WHEN op.fields & 1024 <> 0 THEN op.output::jsonb ELSE job.output END,
        output_file   = CASE WHEN op.fields & 2048 <> 0 THEN op.output_file ELSE job.output_file END,
        error         = CASE WHEN op.fields & 4096 <> 0 THEN op.error ELSE job.error END,
        config        = CASE WHEN op.fields & 8192 <> 0 THEN op.config::jsonb ELSE job.config END,
        tags          = CASE WHEN op.fields & 16384 <> 0 THEN op.tags::jsonb ELSE job.tags END,
        concurrency_key = CASE WHEN op.fields & 32768 <> 0 THEN op.concurrency_key ELSE job.concurrency_key END,
        not_before    = CASE WHEN op.fields & 65536 <> 0 THEN op.not_before ELSE job.not_before END,
        max_attempts  = CASE WHEN op.fields & 131072 <> 0 THEN op.max_attempts ELSE job.max_attempts END,
        event_seq     = job.event_seq + op.event,
        updated_at    = statement_timestamp()
    FROM op
    WHERE job.job_id = op.job_id AND (op.token IS NULL OR job.lease_token = op.token)
      AND {not_done}   -- when: repeated
    RETURNING op.n, job.job_id, job.event_seq, job.ready, job.attempt, op.event, op.detail, op.owner, op.operation_id
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
    SELECT job_id, event_seq, statement_timestamp(), {UPDATED}, ready, attempt, owner, operation_id::uuid, detail
    FROM moved WHERE event = 1
)
SELECT n, job_id FROM moved

-- The setting signs the line that the trigger writes to job_deletions.
-- name: delete_job :batch
WITH op AS (
    SELECT * FROM unnest(:job_id::bigint[], :operation_id::text[]) WITH ORDINALITY AS op (job_id, operation_id, n)
)
DELETE FROM {schema}.jobs AS job USING op
WHERE job.job_id = op.job_id AND set_config('pandora_db.operation_id', op.operation_id, TRUE) IS NOT NULL
  AND NOT EXISTS (SELECT FROM {schema}.job_deletions AS deletion WHERE deletion.job_id = op.job_id AND deletion.operation_id = op.operation_id::uuid)   -- when: repeated
RETURNING op.n, job.job_id

-- What a write that changed nothing met, and whether its operation had been done before.
-- name: find_state :maybe
SELECT ready, coalesce(archived, FALSE), hold, error, event_seq, lease_token, lease_owner,
       (SELECT kind FROM {schema}.job_events AS event
        WHERE event.job_id = job.job_id AND event.operation_id = :operation_id::text::uuid LIMIT 1), job_type
FROM {schema}.jobs AS job WHERE job_id = :job_id::bigint

-- name: find_deletion :maybe
SELECT deletion_id FROM {schema}.job_deletions
WHERE job_id = :job_id::bigint AND operation_id = :operation_id::text::uuid

-- name: get_job :maybe
SELECT {job_columns} FROM {schema}.jobs WHERE job_id = :job_id::bigint

-- name: get_jobs_by_ids :many
SELECT {job_columns} FROM {schema}.jobs WHERE job_id = ANY(:job_ids::bigint[])

-- name: get_jobs_by_stage :many
SELECT {job_columns} FROM {schema}.jobs
WHERE ready = :stage::smallint AND NOT archived
ORDER BY requested_at, job_id

-- name: get_active_jobs :many
SELECT {job_columns} FROM {schema}.jobs WHERE NOT archived ORDER BY requested_at, job_id

-- name: get_queue_length :one
SELECT count(*) FROM {schema}.jobs WHERE NOT archived

-- name: get_user_history :many
SELECT {job_columns} FROM {schema}.job_lists JOIN {schema}.jobs USING (job_id)
WHERE by_author = :author::text            -- when: by_name
WHERE by_author_id = :author_id::bigint    -- when: by_id
ORDER BY by_request DESC, job_id DESC LIMIT :limit::bigint

-- name: get_completed_jobs :many
SELECT {job_columns} FROM {schema}.jobs
WHERE archived
ORDER BY jobs.completed_at DESC NULLS LAST, job_id DESC LIMIT :limit::bigint

-- fragment: row_filters
AND ready = :stage::smallint                -- when: stage
AND ready = ANY(:stages::smallint[])        -- when: stages
AND hold = 1                                -- when: paused
AND hold <> 1                               -- when: not_paused
AND job_type = :job_type::smallint          -- when: job_type

-- fragment: live_filters
AND author = :author::text                  -- when: author
AND author_id = :author_id::bigint          -- when: author_id
AND guild_id = :guild_id::bigint            -- when: guild_id
AND requested_at >= :since::bigint          -- when: since
AND requested_at < :until::bigint           -- when: until
{row_filters}

-- A page of the jobs of one stage and priority. idx_jobs_ready has them in order.
-- fragment: live_page
{live_filters}
AND (requested_at, job_id) < (:after_requested_at::bigint, :after_job_id::bigint)  -- when: after
AND (requested_at IS NOT NULL OR job_id < :after_job_id::bigint)   -- when: after_null
ORDER BY requested_at DESC, job_id DESC
LIMIT :limit::bigint + least(:offset::bigint, 9223372036854675807)

-- Of the active jobs, whosever they are. No index has them in the order of their requests, to which every
-- claim would add an entry: a page of each stage and priority is read instead, as many as there are, which
-- one after the other is skipped to. Another program's job may have no stage. The number is 2^63 - 1 less
-- the highest limit.
-- name: get_live_jobs :many
WITH RECURSIVE place AS (
    (SELECT ready AS stage, (-priority) AS rank FROM {schema}.jobs WHERE NOT archived ORDER BY ready, (-priority) LIMIT 1)
    UNION ALL
    SELECT next.stage, next.rank FROM place CROSS JOIN LATERAL (
        SELECT ready AS stage, (-priority) AS rank FROM {schema}.jobs
        WHERE NOT archived AND (ready, (-priority)) > (place.stage, place.rank)
        ORDER BY ready, (-priority) LIMIT 1
    ) AS next
)
SELECT page.* FROM place CROSS JOIN LATERAL (
    SELECT {job_columns} FROM {schema}.jobs
    WHERE NOT archived AND ready = place.stage AND (-priority) = place.rank
    {live_page}
) AS page
UNION ALL
(
    SELECT {job_columns} FROM {schema}.jobs
    WHERE NOT archived AND ready IS NULL
    {live_page}
)
ORDER BY requested_at DESC, job_id DESC
LIMIT :limit::bigint OFFSET :offset::bigint

-- coalesce(): a plan made while the table was empty would look for each job in the index of the archive.
-- fragment: list_filters
AND by_author = :author::text               -- when: author
AND by_author_id = :author_id::bigint       -- when: author_id
AND by_guild_id = :guild_id::bigint         -- when: guild_id
AND by_request >= :since::bigint            -- when: since
AND by_request < :until::bigint             -- when: until
AND coalesce(archived, FALSE)               -- when: archived
{row_filters}

-- Of all jobs, of the archive, or of an author or a guild, active and archived.
-- name: get_jobs :many
SELECT {job_columns} FROM {schema}.job_lists JOIN {schema}.jobs USING (job_id)
WHERE TRUE
{list_filters}
AND (by_request, job_id) < (:after_requested_at::bigint, :after_job_id::bigint)  -- when: after
AND (by_request IS NOT NULL OR job_id < :after_job_id::bigint)   -- when: after_null
ORDER BY by_request DESC, job_id DESC
LIMIT :limit::bigint OFFSET :offset::bigint

-- name: count_live_jobs :one
SELECT count(*) FROM {schema}.jobs
WHERE NOT archived
{live_filters}

-- name: count_jobs :one
SELECT count(*) FROM {schema}.job_lists JOIN {schema}.jobs USING (job_id)
WHERE TRUE
{list_filters}

-- name: queue_position :maybe
SELECT job.ready, coalesce(job.archived, FALSE), (
    SELECT count(*) FROM {schema}.jobs AS ahead
    WHERE ahead.ready = job.ready AND NOT ahead.archived AND {claimable}
      AND ((-ahead.priority), ahead.requested_at, ahead.job_id) < ((-job.priority), job.requested_at, job.job_id)
)
FROM {schema}.jobs AS job WHERE job.job_id = :job_id::bigint

-- name: stage_counts :many
SELECT ready, count(*) FROM {schema}.jobs WHERE NOT archived GROUP BY ready ORDER BY ready

-- name: name_counts :many
SELECT name, count(*) FROM {schema}.jobs WHERE ready = :stage::smallint AND NOT archived GROUP BY name
