-- A deleted job's events are gone; the line of its deletion stands in for them.
-- name: history :many
SELECT seq, at, kind, stage, attempt, owner, operation_id::text, detail,
       lag(stage) OVER (ORDER BY at, seq) AS previous
FROM (
    SELECT seq, at, kind, stage, attempt, owner, operation_id, detail
    FROM {schema}.job_events WHERE job_id = :job_id::bigint
    UNION ALL
    SELECT seq, at, 10, stage, attempt, NULL, operation_id, NULL
    FROM {schema}.job_deletions WHERE job_id = :job_id::bigint
) AS recorded
ORDER BY at, seq
