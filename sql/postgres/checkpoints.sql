-- The newest first. More than two where damaged ones are kept for inspection.
-- name: get_checkpoint_heads :many
SELECT seq, damaged, data FROM {schema}.job_checkpoints
WHERE job_id = :job_id::bigint AND stage = :stage::smallint AND part = 0
ORDER BY seq DESC

-- name: get_checkpoint_parts :many
SELECT seq, part, data FROM unnest(:seqs::integer[], :parts::integer[]) AS wanted (seq, part)
JOIN {schema}.job_checkpoints USING (seq, part)
WHERE job_id = :job_id::bigint AND stage = :stage::smallint

-- The lock on the job keeps whoever would take it away waiting until this is written.
-- name: save_checkpoint :batch
WITH op AS (
    SELECT * FROM unnest(
        :job_id::bigint[], :token::bigint[], :stage::smallint[], :seq::integer[], :data::bytea[], :oldest::integer[]
    ) WITH ORDINALITY AS op (job_id, token, stage, seq, data, oldest, n)
), held AS MATERIALIZED (
    SELECT op.*, job.has_checkpoints
    FROM op JOIN {schema}.jobs AS job ON job.job_id = op.job_id AND job.lease_token = op.token
    ORDER BY op.job_id
    FOR NO KEY UPDATE OF job
), flagged AS (
    UPDATE {schema}.jobs AS job SET has_checkpoints = TRUE FROM held
    WHERE job.job_id = held.job_id AND NOT held.has_checkpoints
), saved AS (
    INSERT INTO {schema}.job_checkpoints (job_id, stage, seq, part, at, data)
    SELECT job_id, stage, seq, 0, statement_timestamp(), data FROM held
    ON CONFLICT (job_id, stage, seq, part) DO UPDATE SET data = excluded.data
), dropped AS (
    DELETE FROM {schema}.job_checkpoints AS checkpoint USING held
    WHERE checkpoint.job_id = held.job_id AND checkpoint.stage = held.stage AND checkpoint.seq < held.oldest
      AND NOT checkpoint.damaged
)
SELECT n, job_id FROM held

-- name: lock_claimed :maybe
SELECT job_id FROM {schema}.jobs
WHERE job_id = :job_id::bigint AND lease_token = :token::bigint
FOR NO KEY UPDATE

-- name: save_checkpoint_part :batch
WITH op AS (
    SELECT * FROM unnest(:job_id::bigint[], :stage::smallint[], :seq::integer[], :part::integer[], :data::bytea[])
    WITH ORDINALITY AS op (job_id, stage, seq, part, data, n)
), saved AS (
    INSERT INTO {schema}.job_checkpoints (job_id, stage, seq, part, at, data)
    SELECT job_id, stage, seq, part, statement_timestamp(), data FROM op
)
SELECT n, job_id FROM op

-- name: drop_checkpoint_parts :none
DELETE FROM {schema}.job_checkpoints AS checkpoint
USING unnest(:seqs::integer[], :parts::integer[]) AS old (seq, part)
WHERE checkpoint.job_id = :job_id::bigint AND checkpoint.stage = :stage::smallint
  AND checkpoint.seq = old.seq AND checkpoint.part = old.part

-- What was written with it is kept for inspection; none of that is part of an earlier one.
-- name: mark_checkpoint_damaged :none
WITH held AS MATERIALIZED (
    SELECT job_id FROM {schema}.jobs
    WHERE job_id = :job_id::bigint AND lease_token = :token::bigint
    FOR NO KEY UPDATE
)
UPDATE {schema}.job_checkpoints AS checkpoint SET damaged = TRUE FROM held
WHERE checkpoint.job_id = held.job_id AND stage = :stage::smallint AND seq = :seq::integer
