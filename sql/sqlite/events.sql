-- A deleted job's events are gone; the line of its deletion stands in for them. A job that came again
-- has its events after those lines, whatever the clock said meanwhile.
-- name: history :many
SELECT seq, at, kind, stage, attempt, owner, operation_id, detail,
       CASE WHEN kind <> 1 THEN lag(stage) OVER (ORDER BY deletion_id IS NULL, deletion_id, seq) END AS previous
FROM (
    SELECT NULL AS deletion_id, seq, at, kind, stage, attempt, owner, operation_id, detail
    FROM {schema}.job_events WHERE job_id = :job_id
    UNION ALL
    SELECT deletion_id, seq, at, 10, stage, attempt, NULL, operation_id, NULL
    FROM {schema}.job_deletions WHERE job_id = :job_id
)
ORDER BY deletion_id IS NULL, deletion_id, seq
