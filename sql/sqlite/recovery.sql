-- fragment: at_work
ready IN (SELECT code FROM {schema}.stages WHERE kind = 'working') AND NOT archived

-- Whether there is anything for recover_jobs to do.
-- name: find_lapsed :maybe
SELECT job_id FROM {schema}.jobs WHERE {at_work} AND lease_until < {now} LIMIT 1

-- At work without ever having had a lease: put there by a plain update_stage.
-- name: find_unowned :many
SELECT job_id FROM {schema}.jobs WHERE {at_work} AND lease_token IS NULL ORDER BY +job_id LIMIT :limit

-- name: find_running_leases :many
SELECT job_id, lease_token, lease_until FROM {schema}.jobs WHERE {at_work} AND lease_until >= {now} ORDER BY job_id

-- The events come first, since they know what the jobs were before.
-- name: recover_jobs :many
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
SELECT job_id, event_seq + 1, {now},
       CASE outcome WHEN 'failed' THEN {INTERRUPTED} WHEN 'cancelled' THEN {CANCELLED} ELSE {RECOVERED} END,
       CASE outcome WHEN 'failed' THEN failed WHEN 'cancelled' THEN cancelled ELSE returns_to END,
       tried, owner, :operation_id,
       printf('interrupted in %s, attempt %d of %d: %s', worked, tried, most,
              coalesce('the lease of ' || owner || ' ran out', 'no worker had a lease'))
FROM (
    SELECT job.job_id, job.event_seq, job.lease_owner AS owner, stage.name AS worked, stage.returns_to,
           (SELECT max(code) FROM {schema}.stages AS failed WHERE failed.pipeline = stage.pipeline AND failed.kind = 'failed') AS failed,
           (SELECT max(code) FROM {schema}.stages AS ended WHERE ended.pipeline = stage.pipeline AND ended.kind = 'cancelled') AS cancelled,
           job.attempt + (job.lease_token IS NULL) AS tried,
           coalesce(job.max_attempts, :max_attempts) AS most,
           CASE WHEN job.hold = 2 THEN 'cancelled'
                WHEN :fail OR coalesce(by_name.action, by_stage.action) IS 'fail'
                  OR job.attempt + (job.lease_token IS NULL) >= coalesce(job.max_attempts, :max_attempts)
                THEN 'failed' ELSE 'requeued' END AS outcome
    FROM {schema}.jobs AS job
    JOIN {schema}.stages AS stage ON stage.code = job.ready
    LEFT JOIN {schema}.recovery_policies AS by_stage ON by_stage.scope = 'stage' AND by_stage.key = CAST(job.ready AS TEXT)
    LEFT JOIN {schema}.recovery_policies AS by_name ON by_name.scope = 'name' AND by_name.key = job.name
    WHERE {at_work}
      AND job.lease_until < {now}   -- when: lapsed
      AND job.lease_token IS NULL   -- when: unowned
    ORDER BY +job.job_id
    LIMIT :limit
)
RETURNING job_id, (SELECT ready FROM {schema}.jobs AS was WHERE was.job_id = job_events.job_id),
          CASE kind WHEN {INTERRUPTED} THEN 'failed' WHEN {CANCELLED} THEN 'cancelled' ELSE 'requeued' END, attempt, owner;
UPDATE {schema}.jobs
SET ready = event.stage, archived = event.kind <> {RECOVERED},
    completed_at = CASE WHEN event.kind <> {RECOVERED} THEN coalesce(completed_at, {now}) ELSE completed_at END,
    hold = CASE WHEN event.kind = {RECOVERED} THEN hold ELSE 0 END,
    attempt = event.attempt,
    error = CASE event.kind WHEN {INTERRUPTED} THEN event.detail ELSE error END,
    lease_token = NULL, lease_owner = NULL, lease_until = NULL,
    event_seq = event_seq + 1, updated_at = {now}
FROM json_each(:answered) AS answered CROSS JOIN {schema}.job_events AS event
WHERE jobs.job_id = answered.value AND event.job_id = answered.value AND event.seq = jobs.event_seq + 1;
DELETE FROM {schema}.job_checkpoints
WHERE job_id IN (
    SELECT job.job_id FROM json_each(:answered) AS answered CROSS JOIN {schema}.jobs AS job ON job.job_id = answered.value
    JOIN {schema}.stages AS stage ON stage.code = job.ready WHERE stage.kind = 'cancelled'
)

-- name: get_recovery_policies :many
SELECT scope, key, action FROM {schema}.recovery_policies ORDER BY scope, key

-- name: set_recovery_policy :none
INSERT INTO {schema}.recovery_policies (scope, key, action) VALUES (:scope, :key, :action)
ON CONFLICT (scope, key) DO UPDATE SET action = excluded.action
