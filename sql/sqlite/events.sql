-- The kinds of events, as in `EventKind`.
-- fragment: INSERTED
1
-- fragment: STAGE
2
-- fragment: ARCHIVED
3
-- fragment: CANCELLED
6
-- fragment: DECLINED
8
-- fragment: UPDATED
9
-- fragment: DELETED
10
-- fragment: CLAIMED
12
-- fragment: RECOVERED
21
-- fragment: INTERRUPTED
22

-- A deleted job's events are gone; the line of its deletion stands in for them. A job that came again
-- has its events after those lines, whatever the clock said meanwhile.
-- name: history :many
SELECT seq, at, kind, stage, attempt, owner, operation_id, detail,
       CASE WHEN kind <> {INSERTED} THEN lag(stage) OVER (ORDER BY deletion_id IS NULL, deletion_id, seq) END AS previous
FROM (
    SELECT NULL AS deletion_id, seq, at, kind, stage, attempt, owner, operation_id, detail
    FROM {schema}.job_events WHERE job_id = :job_id
    UNION ALL
    SELECT deletion_id, seq, at, {DELETED}, stage, attempt, NULL, operation_id, NULL
    FROM {schema}.job_deletions WHERE job_id = :job_id
)
ORDER BY deletion_id IS NULL, deletion_id, seq

-- name: watch_rights :one
SELECT TRUE

-- Which history this is: of a file that was made anew no old cursor counts.
-- name: watch_origin :one
SELECT applied_at FROM {schema}.pandora_migrations WHERE version = 1

-- When this database was made.
-- name: database_birth :one
SELECT applied_at FROM {schema}.pandora_migrations WHERE version = 1

-- A mark is the last event and the last deletion that were read: there is one writer, so their numbers
-- come in the order of the commits.
-- fragment: lower_event
CAST(substr(:lower, 1, instr(:lower, ':') - 1) AS INTEGER)
-- fragment: lower_deletion
CAST(substr(:lower, instr(:lower, ':') + 1) AS INTEGER)
-- fragment: upper_event
CAST(substr(:upper, 1, instr(:upper, ':') - 1) AS INTEGER)
-- fragment: upper_deletion
CAST(substr(:upper, instr(:upper, ':') + 1) AS INTEGER)

-- fragment: last_event
coalesce((SELECT max(event_id) FROM {schema}.job_events), 0)
-- fragment: last_deletion
coalesce((SELECT max(deletion_id) FROM {schema}.job_deletions), 0)

-- name: watch_window :one
SELECT last_event > {lower_event} OR last_deletion > {lower_deletion}, more IS NOT NULL,
       coalesce(more - 1, max(last_event, {lower_event})) || ':' || max(last_deletion, {lower_deletion}),
       CASE WHEN more IS NULL THEN (SELECT group_concat(DISTINCT stage) FROM {schema}.job_events
                                    WHERE event_id > {lower_event} AND event_id <= last_event) END
FROM (
    SELECT coalesce(CAST(substr(:bound, 1, instr(:bound, ':') - 1) AS INTEGER), {last_event}) AS last_event,
           coalesce(CAST(substr(:bound, instr(:bound, ':') + 1) AS INTEGER), {last_deletion}) AS last_deletion
) CROSS JOIN (
    SELECT (SELECT event_id FROM {schema}.job_events
            WHERE event_id > {lower_event}
              AND (:bound IS NULL OR event_id <= CAST(substr(:bound, 1, instr(:bound, ':') - 1) AS INTEGER))
            ORDER BY event_id LIMIT 1 OFFSET :limit) AS more
)

-- The events of one job are numbered in their order: no mark cuts into it.
-- name: watch_closure :one
SELECT NULL WHERE coalesce(:lower, :upper, :bound, '') IS NOT NULL

-- name: watch_now :one
SELECT {last_event} || ':' || {last_deletion}

-- name: watch_events :many
WITH changed AS MATERIALIZED (
    SELECT NULL AS deletion_id, NULL AS guild_id, job_id, seq, at, kind, stage, attempt, owner, operation_id, detail
    FROM {schema}.job_events WHERE event_id > {lower_event} AND event_id <= {upper_event}
      AND job_id = :job_id   -- when: job
    UNION ALL
    SELECT deletion_id, guild_id, job_id, seq, at, {DELETED}, stage, attempt, NULL, operation_id, NULL
    FROM {schema}.job_deletions WHERE deletion_id > {lower_deletion} AND deletion_id <= {upper_deletion}
      AND job_id = :job_id   -- when: job
), placed AS (
    SELECT *, max(at) OVER (PARTITION BY job_id ORDER BY deletion_id IS NULL, deletion_id, seq) AS place,
           coalesce(deletion_id, 9223372036854775807) AS life
    FROM changed
), named AS (
    SELECT placed.*, CASE WHEN placed.deletion_id IS NULL THEN job.guild_id ELSE placed.guild_id END AS guild
    FROM placed LEFT JOIN {schema}.jobs AS job ON job.job_id = placed.job_id
)
SELECT job_id, seq, at, kind, stage, attempt, owner, operation_id, detail,
       CASE WHEN kind NOT IN ({INSERTED}, {DELETED}) THEN (SELECT before.stage FROM {schema}.job_events AS before WHERE before.job_id = named.job_id AND before.seq = named.seq - 1) END,
       guild, place, life
FROM named
WHERE TRUE
  AND guild = :guild_id   -- when: guild
  AND (place, job_id, life, seq) > (:place, :place_job, :place_life, :place_seq)   -- when: after
ORDER BY place, job_id, life, seq
LIMIT :limit
