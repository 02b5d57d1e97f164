-- fragment: now_seconds
extract(epoch FROM statement_timestamp())::float8

-- A job whose cancellation was asked for goes to a worker, who ends it: it would stay for ever.
-- fragment: claimable
hold <> 1 AND (not_before IS NULL OR not_before <= {now_seconds})

-- fragment: claim_filters
AND tags IS NULL                                 -- when: untagged
AND (tags IS NULL OR tags <@ :tags::text::jsonb)       -- when: tagged
AND name = ANY(:names::text[])                   -- when: names
AND job_type = :job_type::smallint               -- when: job_type
AND guild_id = :guild_id::bigint                 -- when: guild_id
AND author = :author::text                       -- when: author
AND author_id = :author_id::bigint               -- when: author_id

-- What makes a claim of the rows of `candidate`. The token stands in a column of the row that it
-- guards: a late writer who waits for the row's lock is checked again only there.
-- fragment: claim
claimed AS (
    UPDATE {schema}.jobs AS job
    SET ready = :into::smallint, attempt = job.attempt + 1, not_before = NULL,
        lease_token = nextval('{schema}.lease_tokens'), lease_owner = :owner::text,
        lease_until = statement_timestamp() + make_interval(secs => :lease::float8),
        event_seq = job.event_seq + 1, updated_at = statement_timestamp()
    FROM candidate WHERE job.job_id = candidate.id
    RETURNING {job_columns}, lease_token, lease_owner, event_seq
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id)
    SELECT job_id, event_seq, statement_timestamp(), {CLAIMED}, ready, attempt, :owner::text, :operation_id::text::uuid
    FROM claimed
)
SELECT * FROM claimed

-- The constants are for the planner. Of a parameter alone it expects a tenth of the queue, finds the
-- plan that it could keep too dear, and plans anew each time: as long as it takes to claim eight jobs.
-- name: claim_jobs :many
WITH candidate AS MATERIALIZED (
    SELECT id FROM (
        SELECT job_id AS id FROM {schema}.jobs
        WHERE ready = :stage::smallint AND NOT archived AND {claimable}
        {claim_filters}
        AND ((-priority), requested_at, job_id) > (:after_rank::integer, :after_requested_at::bigint, :after_job_id::bigint)   -- when: after
        ORDER BY (-priority), requested_at, job_id
        LIMIT 1      -- when: one
        LIMIT 100    -- when: hundred
        LIMIT 1000   -- when: thousand
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS waiting LIMIT :limit::bigint
), {claim}

-- Waits for a row that somebody else changes just now, where claim_jobs takes another. `archived IS
-- NOT TRUE` keeps the planner from the indexes of live jobs: the ids say all.
-- name: claim_by_ids :many
WITH candidate AS MATERIALIZED (
    SELECT job_id AS id FROM {schema}.jobs
    WHERE job_id = ANY(:job_ids::bigint[]) AND ready = ANY(:stages::smallint[])
      AND archived IS NOT TRUE AND archived IS NOT NULL AND {claimable}
    {claim_filters}
    ORDER BY job_id
    FOR NO KEY UPDATE
    SKIP LOCKED   -- when: skip_locked
), {claim}

-- The claims of an earlier call, as far as they still count: nobody has claimed the job since.
-- name: find_claims :many
SELECT {job_columns}, lease_token, lease_owner FROM {schema}.jobs AS job
WHERE ready = :into::smallint AND NOT archived AND lease_token IS NOT NULL
  AND :operation_id::text::uuid = (SELECT event.operation_id FROM {schema}.job_events AS event
                                   WHERE event.job_id = job.job_id AND event.kind = {CLAIMED}
                                   ORDER BY event.seq DESC LIMIT 1)

-- Where limits are set, claims of one stage go one after the other.
-- name: lock_claims :one
SELECT pg_advisory_xact_lock(hashtext('{schema}.jobs claims'), :into::integer) IS NULL

-- Claims with one operation id go one after the other.
-- name: lock_operation :one
SELECT pg_advisory_xact_lock(hashtextextended('{schema}.jobs ' || :operation_id::text, 0)) IS NULL

-- fragment: limited_by
coalesce(author_id::text, author), guild_id, concurrency_key

-- name: count_busy :many
SELECT {limited_by}, count(*) FROM {schema}.jobs
WHERE ready = :into::smallint AND NOT archived
GROUP BY 1, 2, 3

-- name: find_candidates :many
SELECT job_id, {limited_by} FROM {schema}.jobs
WHERE ready = :stage::smallint AND NOT archived AND {claimable}
{claim_filters}
AND (coalesce(author_id::text, author) = ANY(:full_authors::text[])) IS NOT TRUE
AND (guild_id = ANY(:full_guilds::bigint[])) IS NOT TRUE
AND (concurrency_key = ANY(:full_keys::text[])) IS NOT TRUE
AND ((-priority), requested_at, job_id) > (:after_rank::integer, :after_requested_at::bigint, :after_job_id::bigint)   -- when: after
ORDER BY (-priority), requested_at, job_id
LIMIT :limit::bigint

-- What the rows of `op` make of the claims that they end. A job that was to be cancelled is, where it
-- would wait again (`cancelled`); `drop` says whose checkpoints go: 0 none, 1 the stage's, 2 all.
-- fragment: claim_ended
moved AS (
    UPDATE {schema}.jobs AS job
    SET ready = CASE WHEN job.hold = 2 THEN coalesce(op.cancelled, op.stage) ELSE op.stage END,
        archived = op.archived OR job.hold = 2 AND op.cancelled IS NOT NULL,
        completed_at = CASE WHEN op.archived OR job.hold = 2 AND op.cancelled IS NOT NULL
                            THEN coalesce(job.completed_at, statement_timestamp() AT TIME ZONE 'UTC')
                            ELSE job.completed_at END,
        hold = CASE WHEN op.archived OR job.hold = 2 THEN 0 ELSE job.hold END,
        attempt = op.attempt_left,
        not_before = CASE WHEN op.delay IS NOT NULL THEN {now_seconds} + op.delay END,
        error = CASE WHEN op.keep_error THEN job.error ELSE op.error END,
        output_kind = coalesce(op.output_kind, job.output_kind),
        output = coalesce(op.output::jsonb, job.output),
        output_file = coalesce(op.output_file, job.output_file),
        lease_token = NULL, lease_owner = NULL, lease_until = NULL,
        event_seq = job.event_seq + 1, updated_at = statement_timestamp()
    FROM op
    WHERE job.job_id = op.job_id AND job.lease_token = op.token
    RETURNING op.n, job.job_id, job.event_seq, job.ready,
              op.attempt, op.worked, op.owner, op.detail, op.operation_id,
              CASE WHEN NOT job.has_checkpoints THEN 0 WHEN job.ready = op.cancelled THEN 2 ELSE op.drop END AS drop,
              CASE WHEN job.ready = op.cancelled THEN {CANCELLED} ELSE op.kind END AS kind
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
    SELECT job_id, event_seq, statement_timestamp(), kind, ready, attempt, owner, operation_id::uuid, detail FROM moved
), dropped AS (
    SELECT {schema}.drop_checkpoints(array_agg(job_id), array_agg(CASE WHEN drop = 1 THEN worked END))
    FROM moved WHERE drop > 0
)
SELECT n, job_id, ready FROM moved CROSS JOIN dropped

-- Whatever ends a claim: finish, fail, snooze, release.
-- name: end_claim :batch
WITH op AS (
    SELECT * FROM unnest(
        :job_id::bigint[], :token::bigint[], :stage::smallint[], :archived::boolean[],
        :cancelled::smallint[], :attempt::integer[], :attempt_left::integer[], :delay::float8[],
        :keep_error::boolean[], :error::text[], :output_kind::text[], :output::text[],
        :output_file::text[], :worked::smallint[], :drop::smallint[], :kind::smallint[],
        :owner::text[], :detail::text[], :operation_id::text[]
    ) WITH ORDINALITY AS op (
        job_id, token, stage, archived, cancelled, attempt, attempt_left, delay, keep_error, error,
        output_kind, output, output_file, worked, drop, kind, owner, detail, operation_id, n
    )
), {claim_ended}

-- Renews what is still claimed, and tells what was asked of each job meanwhile. A row that another
-- transaction holds is passed over: find_leases tells whether it is still claimed.
-- name: renew_leases :many
WITH held AS MATERIALIZED (
    SELECT job.job_id AS id, lease.seconds
    FROM unnest(:job_ids::bigint[], :tokens::bigint[], :seconds::float8[]) AS lease (job_id, token, seconds)
    JOIN {schema}.jobs AS job ON job.job_id = lease.job_id AND job.lease_token = lease.token
    ORDER BY job.job_id
    FOR NO KEY UPDATE OF job SKIP LOCKED
)
UPDATE {schema}.jobs AS job
SET lease_until = statement_timestamp() + make_interval(secs => held.seconds)
FROM held WHERE job.job_id = held.id
RETURNING job.job_id, job.lease_token, job.hold

-- name: find_leases :many
SELECT job.job_id, job.lease_token, job.hold
FROM unnest(:job_ids::bigint[], :tokens::bigint[]) AS lease (job_id, token)
JOIN {schema}.jobs AS job ON job.job_id = lease.job_id AND job.lease_token = lease.token
