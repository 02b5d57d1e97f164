-- The last line of a call bears its operation.
-- name: append_logs :batch
INSERT INTO {schema}.job_logs (job_id, seq, at, level, attempt, stage, message, operation_id)
SELECT job.job_id, last.seq + :skipped + 1 + line.key,
       strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || (json_extract(line.value, '$[0]') / 1000.0) || ' seconds'),
       json_extract(line.value, '$[1]'), job.attempt, job.ready, json_extract(line.value, '$[2]'),
       CASE WHEN line.key = :count - 1 THEN :operation_id END
FROM {schema}.jobs AS job
CROSS JOIN (SELECT coalesce(max(seq), 0) AS seq FROM {schema}.job_logs WHERE job_id = :job_id) AS last
CROSS JOIN json_each(:lines) AS line
WHERE job.job_id = :job_id AND job.lease_token = :token
  AND NOT EXISTS (SELECT 1 FROM {schema}.job_logs WHERE job_id = :job_id AND operation_id = :operation_id)   -- when: repeated
;
SELECT job_id, max(seq) FROM {schema}.job_logs WHERE job_id = :job_id AND changes() > 0 GROUP BY job_id;
DELETE FROM {schema}.job_logs
WHERE job_id = :job_id AND changes() > 0
  AND seq <= (SELECT max(seq) FROM {schema}.job_logs WHERE job_id = :job_id) - :most

-- The number of the last line that an earlier call kept.
-- name: find_logs :maybe
SELECT seq FROM {schema}.job_logs WHERE job_id = :job_id AND operation_id = :operation_id

-- name: last_log :one
SELECT coalesce(max(seq), 0) FROM {schema}.job_logs WHERE job_id = :job_id

-- name: logs :many
SELECT seq, at, level, attempt, stage, message FROM {schema}.job_logs
WHERE job_id = :job_id AND seq > :after
ORDER BY seq LIMIT :limit
