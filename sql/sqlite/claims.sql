-- fragment: now_seconds
((julianday('now') - 2440587.5) * 86400.0)

-- A job whose cancellation was asked for goes to a worker, who ends it: it would stay for ever.
-- fragment: claimable
hold <> 1 AND (not_before IS NULL OR not_before <= {now_seconds})

-- fragment: claim_filters
AND tags IS NULL                                           -- when: untagged
AND NOT EXISTS (SELECT 1 FROM json_each(jobs.tags) AS tag WHERE tag.value NOT IN (SELECT value FROM json_each(:tags)))   -- when: tagged
AND name IN (SELECT value FROM json_each(:names))          -- when: names
AND job_type = :job_type                                   -- when: job_type
AND guild_id = :guild_id                                   -- when: guild_id
AND author = :author                                       -- when: author
AND author_id = :author_id                                 -- when: author_id

-- The jobs of one call share a token. The counter comes back with a rollback; `salt`, made for each
-- call, then still keeps apart whoever held such a claim.
-- fragment: claim
SET ready = :into, attempt = attempt + 1, not_before = NULL,
    lease_token = (SELECT (value + 1) * 1048576 + :salt FROM {schema}.lease_tokens), lease_owner = :owner,
    lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', :lease || ' seconds'), event_seq = event_seq + 1, updated_at = {now}

-- fragment: claim_recorded
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id)
SELECT job_id, event_seq, updated_at, {CLAIMED}, ready, attempt, :owner, :operation_id
FROM json_each(:answered) AS claimed CROSS JOIN {schema}.jobs ON job_id = claimed.value;
UPDATE {schema}.lease_tokens SET value = value + 1 WHERE json_array_length(:answered) > 0

-- NULLs of requested_at come first here, last on PostgreSQL; no program of this dialect leaves any.
-- This planner does not ask how many are wanted.
-- name: claim_jobs :many
UPDATE {schema}.jobs {claim}
WHERE job_id IN (
    SELECT job_id FROM {schema}.jobs
    WHERE ready = :stage AND NOT archived AND {claimable}
    {claim_filters}
    AND ((-priority), requested_at, job_id) > (:after_rank, :after_requested_at, :after_job_id)   -- when: after
    AND TRUE   -- when: one
    AND TRUE   -- when: hundred
    AND TRUE   -- when: thousand
    ORDER BY (-priority), requested_at, job_id
    LIMIT :limit
)
RETURNING {job_columns}, lease_token, lease_owner;
{claim_recorded}

-- `archived IS NOT TRUE` keeps the planner from the indexes of live jobs: the ids say all.
-- name: claim_by_ids :many
UPDATE {schema}.jobs {claim}
WHERE job_id IN (SELECT value FROM json_each(:job_ids)) AND ready IN (SELECT value FROM json_each(:stages))
  AND archived IS NOT TRUE AND archived IS NOT NULL AND {claimable}
  AND TRUE   -- when: skip_locked
{claim_filters}
RETURNING {job_columns}, lease_token, lease_owner;
{claim_recorded}

-- The claims of an earlier call, as far as they still count: nobody has claimed the job since.
-- name: find_claims :many
SELECT {job_columns}, lease_token, lease_owner FROM {schema}.jobs AS job
WHERE ready = :into AND NOT archived AND lease_token IS NOT NULL
  AND :operation_id = (SELECT event.operation_id FROM {schema}.job_events AS event
                       WHERE event.job_id = job.job_id AND event.kind = {CLAIMED}
                       ORDER BY event.seq DESC LIMIT 1)

-- A transaction of SQLite has the only write turn already.
-- name: lock_claims :one
SELECT :into IS NULL

-- name: lock_operation :one
SELECT :operation_id IS NULL

-- fragment: limited_by
coalesce(CAST(author_id AS TEXT), author), guild_id, concurrency_key

-- name: count_busy :many
SELECT {limited_by}, count(*) FROM {schema}.jobs
WHERE ready = :into AND NOT archived
GROUP BY 1, 2, 3

-- name: find_candidates :many
SELECT job_id, {limited_by} FROM {schema}.jobs
WHERE ready = :stage AND NOT archived AND {claimable}
{claim_filters}
AND (coalesce(CAST(author_id AS TEXT), author) IN (SELECT value FROM json_each(:full_authors))) IS NOT TRUE
AND (guild_id IN (SELECT value FROM json_each(:full_guilds))) IS NOT TRUE
AND (concurrency_key IN (SELECT value FROM json_each(:full_keys))) IS NOT TRUE
AND ((-priority), requested_at, job_id) > (:after_rank, :after_requested_at, :after_job_id)   -- when: after
ORDER BY (-priority), requested_at, job_id
LIMIT :limit

-- Whatever ends a claim: finish, fail, snooze, release. A job that was to be cancelled is, where it
-- would wait again (`cancelled`); `drop` says whose checkpoints go: 0 none, 1 the stage's, 2 all.
-- name: end_claim :batch
UPDATE {schema}.jobs
SET ready = CASE WHEN hold = 2 THEN coalesce(:cancelled, :stage) ELSE :stage END,
    archived = :archived OR (hold = 2 AND :cancelled IS NOT NULL),
    completed_at = CASE WHEN :archived OR (hold = 2 AND :cancelled IS NOT NULL)
                        THEN coalesce(completed_at, {now}) ELSE completed_at END,
    hold = CASE WHEN :archived OR hold = 2 THEN 0 ELSE hold END,
    attempt = :attempt_left,
    not_before = {now_seconds} + :delay,
    error = CASE WHEN :keep_error THEN error ELSE :error END,
    output_kind = coalesce(:output_kind, output_kind),
    output = coalesce(:output, output),
    output_file = coalesce(:output_file, output_file),
    lease_token = NULL, lease_owner = NULL, lease_until = NULL,
    event_seq = event_seq + 1, updated_at = {now}
WHERE job_id = :job_id AND lease_token = :token;
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
SELECT job_id, event_seq, updated_at, CASE WHEN ready IS :cancelled THEN {CANCELLED} ELSE :kind END, ready, :attempt,
       :owner, :operation_id, :detail
FROM {schema}.jobs WHERE job_id = :job_id AND changes() = 1;
SELECT job_id, ready FROM {schema}.jobs WHERE job_id = :job_id AND changes() = 1;
DELETE FROM {schema}.job_checkpoints
WHERE job_id = :job_id AND changes() = 1 AND (
    :drop = 2 OR :drop = 1 AND stage = :worked
    OR :cancelled IS (SELECT ready FROM {schema}.jobs WHERE job_id = :job_id)
)

-- The lists side by side. Each is read once: to look for the n-th of a JSON list is to read it from
-- its beginning. The planner gives what is materialized an index.
-- fragment: leases
token AS MATERIALIZED (SELECT key, value FROM json_each(:tokens)),
lease AS (
    SELECT job.key, job.value AS id, token.value AS token
    FROM json_each(:job_ids) AS job CROSS JOIN token ON token.key = job.key
)

-- Renews what is still claimed, and tells what was asked of each job meanwhile.
-- name: renew_leases :many
WITH {leases}, length AS MATERIALIZED (SELECT key, value FROM json_each(:seconds))
UPDATE {schema}.jobs
SET lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', held.seconds || ' seconds')
FROM (SELECT id, token, length.value AS seconds FROM lease CROSS JOIN length ON length.key = lease.key) AS held
WHERE job_id = held.id AND lease_token = held.token
RETURNING job_id, lease_token, hold

-- name: find_leases :many
WITH {leases}
SELECT job_id, lease_token, hold
FROM lease CROSS JOIN {schema}.jobs ON job_id = lease.id
WHERE lease_token = lease.token
