-- The numbers come from the caller, so that a call whose answer was lost may be repeated. The lock on
-- the job keeps whoever would take it away waiting until this is written.
-- name: append_logs :batch
WITH op AS (
    SELECT * FROM unnest(:job_id::bigint[], :token::bigint[], :after::bigint[], :lines::text[], :oldest::bigint[])
    WITH ORDINALITY AS op (job_id, token, after, lines, oldest, n)
), held AS MATERIALIZED (
    SELECT op.*, job.attempt, job.ready FROM op
    JOIN {schema}.jobs AS job ON job.job_id = op.job_id AND job.lease_token = op.token
    ORDER BY op.job_id
    FOR NO KEY UPDATE OF job
), written AS (
    INSERT INTO {schema}.job_logs (job_id, seq, at, level, attempt, stage, message)
    SELECT held.job_id, held.after + line.number,
           statement_timestamp() - make_interval(secs => (line.value ->> 0)::double precision / 1000),
           (line.value ->> 1)::smallint, held.attempt, held.ready, line.value ->> 2
    FROM held CROSS JOIN LATERAL jsonb_array_elements(held.lines::jsonb) WITH ORDINALITY AS line (value, number)
    ON CONFLICT (job_id, seq) DO NOTHING
), dropped AS (
    DELETE FROM {schema}.job_logs AS line USING held
    WHERE line.job_id = held.job_id AND line.seq <= held.oldest
)
SELECT n, job_id FROM held

-- name: last_log :one
SELECT coalesce(max(seq), 0) FROM {schema}.job_logs WHERE job_id = :job_id::bigint

-- name: logs :many
SELECT seq, at, level, attempt, stage, message FROM {schema}.job_logs
WHERE job_id = :job_id::bigint AND seq > :after::bigint
ORDER BY seq LIMIT :limit::bigint
