-- The lock on the job keeps whoever would take it away waiting until this is written, and whoever else
-- appends to it: the numbers are given under it. The last line of a call bears its operation.
-- name: append_logs :batch
WITH op AS (
    SELECT * FROM unnest(
        :job_id::bigint[], :token::bigint[], :lines::text[], :count::integer[], :skipped::bigint[],
        :most::integer[], :operation_id::text[]
    ) WITH ORDINALITY AS op (job_id, token, lines, count, skipped, most, operation_id, n)
), held AS MATERIALIZED (
    SELECT op.*, job.attempt, job.ready FROM op
    JOIN {schema}.jobs AS job ON job.job_id = op.job_id AND job.lease_token = op.token
    ORDER BY op.job_id
    FOR NO KEY UPDATE OF job
), numbered AS MATERIALIZED (
    SELECT held.*, {schema}.make_room_for_logs(job_id, most - skipped - count) + skipped AS after FROM held
    WHERE {schema}.find_logs(job_id, operation_id::uuid) IS NULL   -- when: repeated
), written AS (
    INSERT INTO {schema}.job_logs (job_id, seq, at, level, attempt, stage, message, operation_id)
    SELECT job_id, after + line.number,
           statement_timestamp() - make_interval(secs => (line.value ->> 0)::double precision / 1000),
           (line.value ->> 1)::smallint, attempt, ready, line.value ->> 2,
           CASE WHEN line.number = count THEN operation_id::uuid END
    FROM numbered CROSS JOIN LATERAL jsonb_array_elements(lines::jsonb) WITH ORDINALITY AS line (value, number)
)
SELECT n, job_id, after + count FROM numbered

-- The number of the last line that an earlier call kept.
-- name: find_logs :maybe
SELECT seq FROM {schema}.job_logs
WHERE job_id = :job_id::bigint AND operation_id = :operation_id::text::uuid

-- name: last_log :one
SELECT coalesce(max(seq), 0) FROM {schema}.job_logs WHERE job_id = :job_id::bigint

-- name: logs :many
SELECT seq, at, level, attempt, stage, message FROM {schema}.job_logs
WHERE job_id = :job_id::bigint AND seq > :after::bigint
ORDER BY seq LIMIT :limit::bigint
