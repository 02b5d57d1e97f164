-- The numbers come from the caller, so that a call whose answer was lost may be repeated.
-- name: append_logs :batch
INSERT INTO {schema}.job_logs (job_id, seq, at, level, attempt, stage, message)
SELECT job.job_id, :after + 1 + line.key,
       strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || (json_extract(line.value, '$[0]') / 1000.0) || ' seconds'),
       json_extract(line.value, '$[1]'), job.attempt, job.ready, json_extract(line.value, '$[2]')
FROM {schema}.jobs AS job CROSS JOIN json_each(:lines) AS line
WHERE job.job_id = :job_id AND job.lease_token = :token
ON CONFLICT (job_id, seq) DO NOTHING;
DELETE FROM {schema}.job_logs
WHERE job_id = :job_id AND seq <= :oldest
  AND EXISTS (SELECT 1 FROM {schema}.jobs WHERE job_id = :job_id AND lease_token = :token);
SELECT job_id FROM {schema}.jobs WHERE job_id = :job_id AND lease_token = :token

-- name: last_log :one
SELECT coalesce(max(seq), 0) FROM {schema}.job_logs WHERE job_id = :job_id

-- name: logs :many
SELECT seq, at, level, attempt, stage, message FROM {schema}.job_logs
WHERE job_id = :job_id AND seq > :after
ORDER BY seq LIMIT :limit
