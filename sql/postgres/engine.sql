-- What only this engine needs.

-- name: ping :one
SELECT 1

-- name: notify :one
SELECT pg_notify(:channel::text, :payload::text) IS NULL

-- name: current_transaction :one
SELECT pg_current_xact_id_if_assigned()::text, pg_postmaster_start_time()

-- Who serves a connection, so that it can be asked after when the connection is lost.
-- name: backend :one
SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()

-- True while that server process is there. It is left to finish what it does, and ended when it
-- waits for its client: an end in the middle of a commit could hide that a standby lacks it.
-- name: end_backend :one
SELECT coalesce(bool_or(wait_event IS DISTINCT FROM 'ClientRead' OR pg_terminate_backend(pid)), FALSE)
FROM pg_catalog.pg_stat_activity
WHERE pid = :pid::integer AND backend_start = :backend_start::timestamptz

-- Each array type of the statements. Behind a pooler asyncpg must not look one up by itself: its
-- lookup is compiled where the server compiles dear plans (0.6 s), and the `jit = off` that it says
-- first may reach another server connection, which keeps it.
-- name: array_types :one
SELECT NULL::bigint[], NULL::integer[], NULL::smallint[], NULL::boolean[], NULL::bytea[], NULL::float8[], NULL::text[],
       NULL::uuid[]

-- Whether a COMMIT whose answer was lost took place. A server that crashed may give the number
-- of a transaction that it lost to another one: the start time tells.
-- name: transaction_status :one
SELECT pg_xact_status(:transaction::text::xid8), pg_postmaster_start_time()

-- name: lock_schema :one
SELECT pg_advisory_xact_lock(hashtext('pandora_db schema ' || '{schema}')) IS NULL

-- name: server_facts :one
SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
       current_setting('full_page_writes'), pg_database_size(current_database()),
       (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8
        FROM pg_catalog.pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL),
       pg_is_in_recovery()

-- insert_job for calls that agree in what is no array here, without ids and keys of their own, none of which may
-- have been done before. Only a generated id can be taken then, which is rare: without ON CONFLICT it costs a
-- seventh less, and where one is taken nothing is stored, and the same calls go by insert_job (lane.py).
-- name: insert_jobs_alike :batch
WITH op AS MATERIALIZED (
    SELECT author, requested_at, link, directory, message_id, channel_id, author_id, guild_id, concurrency_key, not_before,
           params, operation_id, n,
           NULL::bigint AS job_id, NULL::text AS external_id, NULL::text AS idempotency_key,
           :job_type::smallint AS job_type, :preset::smallint AS preset, :preset_concat::smallint AS preset_concat,
           :ready::smallint AS ready, :priority::smallint AS priority, :config::text AS config, :name::text AS name,
           :tags::text AS tags, :max_attempts::smallint AS max_attempts
    FROM unnest(
        :author::text[], :requested_at::bigint[], :link::text[], :directory::text[], :message_id::bigint[],
        :channel_id::bigint[], :author_id::bigint[], :guild_id::bigint[], :concurrency_key::text[], :not_before::float8[],
        :params::bytea[], :operation_id::uuid[]
    ) WITH ORDINALITY AS op (
        author, requested_at, link, directory, message_id, channel_id, author_id, guild_id, concurrency_key, not_before,
        params, operation_id, n
    )
), {insert_begun}
    ORDER BY n
{insert_recorded}

-- end_claim where all calls are one worker's and end in one way without an output, as most do.
-- name: end_claims_alike :batch
WITH op AS (
    SELECT job_id, token, attempt, attempt_left, operation_id, n,
           :owner::text AS owner, :stage::smallint AS stage, :archived::boolean AS archived,
           :cancelled::smallint AS cancelled, :worked::smallint AS worked, :kind::smallint AS kind, :drop::smallint AS drop,
           :keep_error::boolean AS keep_error, :delay::float8 AS delay, :error::text AS error, :detail::text AS detail,
           NULL::text AS output_kind, NULL::text AS output, NULL::text AS output_file
    FROM unnest(:job_id::bigint[], :token::bigint[], :attempt::integer[], :attempt_left::integer[], :operation_id::uuid[])
    WITH ORDINALITY AS op (job_id, token, attempt, attempt_left, operation_id, n)
), {claim_ended}
