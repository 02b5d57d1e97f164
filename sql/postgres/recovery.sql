-- fragment: at_work
ready = ANY(ARRAY(SELECT code FROM {schema}.stages WHERE kind = 'working')) AND NOT archived

-- Whether there is anything for recover_jobs to do.
-- name: find_lapsed :maybe
SELECT job_id FROM {schema}.jobs
WHERE {at_work} AND lease_until < statement_timestamp()
LIMIT 1

-- Ordered by `job_id + 0`, since a plan for any limit would walk all jobs in the order of their ids.
-- At work without ever having had a lease: libpndb's, or put there by a plain update_stage.
-- name: find_unowned :many
SELECT job_id FROM {schema}.jobs
WHERE {at_work} AND lease_token IS NULL
ORDER BY job_id + 0 LIMIT :limit::bigint

-- name: find_running_leases :many
SELECT job_id, lease_token, lease_until FROM {schema}.jobs
WHERE {at_work} AND lease_until >= statement_timestamp()
ORDER BY job_id

-- One conditional, repeatable statement: what another process recovers at the same time is passed
-- over, and a job whose lease was renewed meanwhile is looked at again and left alone.
-- name: recover_jobs :many
WITH stopped AS MATERIALIZED (
    SELECT job.job_id AS id, job.ready AS was, job.lease_owner AS owner, stage.name AS worked, stage.returns_to,
           (SELECT max(code) FROM {schema}.stages AS failed WHERE failed.pipeline = stage.pipeline AND failed.kind = 'failed') AS failed,
           (SELECT max(code) FROM {schema}.stages AS ended WHERE ended.pipeline = stage.pipeline AND ended.kind = 'cancelled') AS cancelled,
           job.attempt + CASE WHEN job.lease_token IS NULL THEN 1 ELSE 0 END AS tried,
           coalesce(job.max_attempts, :max_attempts::integer) AS most,
           CASE WHEN job.hold = 2 THEN 'cancelled'
                WHEN :fail::boolean OR coalesce(by_name.action, by_stage.action) = 'fail'
                  OR job.attempt + CASE WHEN job.lease_token IS NULL THEN 1 ELSE 0 END >= coalesce(job.max_attempts, :max_attempts::integer)
                THEN 'failed' ELSE 'requeued' END AS outcome
    FROM {schema}.jobs AS job
    JOIN {schema}.stages AS stage ON stage.code = job.ready
    LEFT JOIN {schema}.recovery_policies AS by_stage ON by_stage.scope = 'stage' AND by_stage.key = job.ready::text
    LEFT JOIN {schema}.recovery_policies AS by_name ON by_name.scope = 'name' AND by_name.key = job.name
    WHERE {at_work}
      AND job.lease_until < statement_timestamp()   -- when: lapsed
      AND job.lease_token IS NULL                   -- when: unowned
    ORDER BY job.job_id + 0
    LIMIT :limit::bigint
    FOR NO KEY UPDATE OF job SKIP LOCKED
), told AS (
    SELECT *, format('interrupted in %s, attempt %s of %s: %s', worked, tried, most,
                     coalesce('the lease of ' || owner || ' ran out', 'no worker had a lease')) AS detail
    FROM stopped
), moved AS (
    UPDATE {schema}.jobs AS job
    SET ready = CASE told.outcome WHEN 'failed' THEN told.failed WHEN 'cancelled' THEN told.cancelled ELSE told.returns_to END,
        archived = told.outcome <> 'requeued',
        completed_at = CASE WHEN told.outcome <> 'requeued'
                            THEN coalesce(job.completed_at, statement_timestamp() AT TIME ZONE 'UTC')
                            ELSE job.completed_at END,
        hold = CASE WHEN told.outcome = 'requeued' THEN job.hold ELSE 0 END,
        attempt = told.tried,
        error = CASE told.outcome WHEN 'failed' THEN told.detail ELSE job.error END,
        lease_token = NULL, lease_owner = NULL, lease_until = NULL,
        event_seq = job.event_seq + 1, updated_at = statement_timestamp()
    FROM told WHERE job.job_id = told.id
    RETURNING job.job_id, job.event_seq, job.ready, told.was, told.outcome, told.tried, told.owner, told.detail
), recorded AS (
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
    SELECT job_id, event_seq, statement_timestamp(),
           CASE outcome WHEN 'failed' THEN {INTERRUPTED} WHEN 'cancelled' THEN {CANCELLED} ELSE {RECOVERED} END,
           ready, tried, owner, :operation_id::text::uuid, detail
    FROM moved
), dropped AS (
    SELECT {schema}.drop_checkpoints(array_agg(job_id), array_agg(NULL::smallint)) FROM moved WHERE outcome = 'cancelled'
)
SELECT job_id, was, outcome, tried, owner FROM moved CROSS JOIN dropped ORDER BY job_id

-- name: get_recovery_policies :many
SELECT scope, key, action FROM {schema}.recovery_policies ORDER BY scope, key

-- name: set_recovery_policy :none
INSERT INTO {schema}.recovery_policies (scope, key, action) VALUES (:scope::text, :key::text, :action::text)
ON CONFLICT (scope, key) DO UPDATE SET action = excluded.action
