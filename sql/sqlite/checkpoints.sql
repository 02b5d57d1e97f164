-- The newest first. More than two where damaged ones are kept for inspection.
-- name: get_checkpoint_heads :many
SELECT seq, damaged, data FROM {schema}.job_checkpoints
WHERE job_id = :job_id AND stage = :stage AND part = 0
ORDER BY seq DESC

-- name: get_checkpoint_parts :many
SELECT seq, part, data FROM json_each(:seqs) AS wanted CROSS JOIN {schema}.job_checkpoints
ON seq = wanted.value AND part = json_extract(:parts, '$[' || wanted.key || ']')
WHERE job_id = :job_id AND stage = :stage

-- name: save_checkpoint :batch
INSERT INTO {schema}.job_checkpoints (job_id, stage, seq, part, at, data)
SELECT job_id, :stage, :seq, 0, {now}, :data FROM {schema}.jobs WHERE job_id = :job_id AND lease_token = :token
ON CONFLICT (job_id, stage, seq, part) DO UPDATE SET data = excluded.data;
SELECT :job_id WHERE changes() = 1;
DELETE FROM {schema}.job_checkpoints
WHERE job_id = :job_id AND stage = :stage AND seq < :oldest AND NOT damaged AND changes() = 1

-- name: lock_claimed :maybe
SELECT job_id FROM {schema}.jobs WHERE job_id = :job_id AND lease_token = :token

-- name: save_checkpoint_part :batch
INSERT INTO {schema}.job_checkpoints (job_id, stage, seq, part, at, data)
VALUES (:job_id, :stage, :seq, :part, {now}, :data)
RETURNING job_id

-- name: drop_checkpoint_parts :none
DELETE FROM {schema}.job_checkpoints
WHERE job_id = :job_id AND stage = :stage
  AND (seq, part) IN (SELECT value, json_extract(:parts, '$[' || key || ']') FROM json_each(:seqs))

-- What was written with it is kept for inspection; none of that is part of an earlier one.
-- name: mark_checkpoint_damaged :none
UPDATE {schema}.job_checkpoints SET damaged = TRUE
WHERE job_id = (SELECT job_id FROM {schema}.jobs WHERE job_id = :job_id AND lease_token = :token)
  AND stage = :stage AND seq = :seq
