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
SELECT seq, at, kind, stage, attempt, owner, operation_id::text, detail,
       CASE WHEN kind <> {INSERTED} THEN lag(stage) OVER (ORDER BY deletion_id IS NULL, deletion_id, seq) END AS previous
FROM (
    SELECT NULL::bigint AS deletion_id, seq, at, kind, stage, attempt, owner, operation_id, detail
    FROM {schema}.job_events WHERE job_id = :job_id::bigint
    UNION ALL
    SELECT deletion_id, seq, at, {DELETED}, stage, attempt, NULL, operation_id, NULL
    FROM {schema}.job_deletions WHERE job_id = :job_id::bigint
) AS recorded
ORDER BY deletion_id IS NULL, deletion_id, seq

-- Whether the role may ask the next one: everybody may, unless somebody took that right away.
-- name: watch_rights :one
SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')

-- Which history this is: of a database that was restored elsewhere, or made anew, no old cursor counts.
-- name: watch_origin :one
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || ' ' ||
       (SELECT extract(epoch FROM applied_at)::text FROM {schema}.pandora_migrations WHERE version = 1)

-- A mark is a snapshot: what its transactions wrote has been read. Transactions end in another order
-- than they begin, so the mark names those that were open, and what they wrote is found once they have
-- ended. No transaction has to be waited for, however long it stays open.
-- A mark ends behind the last event that was read, not where the server is: the numbers behind that may
-- be given out once more after a crash.
-- Workers are told by the stages, as long as there is no more than a window.
-- name: watch_window :one
WITH mark AS MATERIALIZED (
    SELECT :lower::text::pg_snapshot AS lower, coalesce(:bound::text::pg_snapshot, pg_current_snapshot()) AS bound
), found AS MATERIALIZED (
    SELECT tx, stage FROM (
        (SELECT event.tx, event.stage FROM {schema}.job_events AS event
         WHERE event.tx >= pg_snapshot_xmax((SELECT lower FROM mark)) AND event.tx < pg_snapshot_xmax((SELECT bound FROM mark))
           AND pg_visible_in_snapshot(event.tx, (SELECT bound FROM mark)) AND {tx_is_ours}
         ORDER BY event.tx LIMIT :limit::bigint + 1)
        UNION ALL
        (SELECT event.tx, event.stage FROM {schema}.job_deletions AS event
         WHERE event.tx >= pg_snapshot_xmax((SELECT lower FROM mark)) AND event.tx < pg_snapshot_xmax((SELECT bound FROM mark))
           AND pg_visible_in_snapshot(event.tx, (SELECT bound FROM mark)) AND {tx_is_ours}
         ORDER BY event.tx LIMIT :limit::bigint + 1)
        UNION ALL
        (SELECT event.tx, event.stage FROM pg_snapshot_xip((SELECT lower FROM mark)) AS open (tx) JOIN {schema}.job_events AS event ON event.tx = open.tx
         WHERE pg_visible_in_snapshot(event.tx, (SELECT bound FROM mark)) LIMIT :limit::bigint + 1)
        UNION ALL
        (SELECT event.tx, event.stage FROM pg_snapshot_xip((SELECT lower FROM mark)) AS open (tx) JOIN {schema}.job_deletions AS event ON event.tx = open.tx
         WHERE pg_visible_in_snapshot(event.tx, (SELECT bound FROM mark)) LIMIT :limit::bigint + 1)
    ) AS each_way
    ORDER BY tx LIMIT :limit::bigint + 1
), counted AS MATERIALIZED (
    SELECT count(*) AS number, (SELECT tx FROM found ORDER BY tx OFFSET greatest(:limit::bigint - 1, 0) LIMIT 1) AS last_of_many,
           (SELECT tx FROM found ORDER BY tx DESC LIMIT 1) AS last_of_all,
           string_agg(DISTINCT stage::text, ',') AS stages
    FROM found
), ended AS MATERIALIZED (
    SELECT number > 0 AS anything, number > :limit::bigint AS more, lower, bound, stages,
           greatest(pg_snapshot_xmax(lower)::text::bigint,
                    1 + (CASE WHEN number > :limit::bigint THEN last_of_many ELSE last_of_all END)::text::bigint) AS edge
    FROM counted, mark
)
SELECT anything, more, {mark_up_to_edge}, stages FROM ended

-- A mark of less than `bound`, up to the transaction `edge`: what was open then is still to come.
-- fragment: mark_up_to_edge
(SELECT coalesce(min(open), edge)::text || ':' || edge::text || ':' || coalesce(string_agg(open::text, ',' ORDER BY open), '')
 FROM (SELECT tx::text::bigint AS open FROM pg_snapshot_xip(bound) AS open (tx)) AS still WHERE open < edge)

-- A row that was restored from another server bears a number of that server: it was written by an
-- older transaction than it says, where our own rows were written by it or by its savepoints.
-- fragment: tx_is_ours
age(event.xmin) <= age(event.tx::xid)

-- A transaction may have a lower number than another that it waited for. The events of one job that
-- come before those of the mark `upper`: the last of their transactions, when it lies behind.
-- name: watch_closure :one
WITH mark AS MATERIALIZED (
    SELECT :lower::text::pg_snapshot AS lower, :upper::text::pg_snapshot AS upper, coalesce(:bound::text::pg_snapshot, pg_current_snapshot()) AS bound
), later AS MATERIALIZED (
    SELECT event.job_id, max(event.seq) AS seq FROM {schema}.job_events AS event
    WHERE event.tx >= pg_snapshot_xmin((SELECT lower FROM mark)) AND event.tx < pg_snapshot_xmax((SELECT upper FROM mark))
      AND NOT pg_visible_in_snapshot(event.tx, (SELECT lower FROM mark))
      AND pg_visible_in_snapshot(event.tx, (SELECT upper FROM mark)) AND {tx_is_ours}
    GROUP BY event.job_id
), ended AS MATERIALIZED (
    SELECT bound, (SELECT 1 + max((SELECT max(event.tx::text::bigint) FROM {schema}.job_events AS event
                                   WHERE event.job_id = later.job_id AND event.seq < later.seq
                                     AND event.tx >= pg_snapshot_xmax(mark.upper) AND {tx_is_ours})) FROM later) AS edge
    FROM mark
)
SELECT CASE WHEN edge IS NOT NULL THEN {mark_up_to_edge} END FROM ended

-- The newest event there is; from here on is "from now on".
-- name: watch_now :one
SELECT {mark_up_to_edge} FROM (
    SELECT pg_current_snapshot() AS bound, coalesce(1 + greatest(
        (SELECT event.tx::text::bigint FROM {schema}.job_events AS event WHERE event.tx < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY event.tx DESC LIMIT 1),
        (SELECT event.tx::text::bigint FROM {schema}.job_deletions AS event WHERE event.tx < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY event.tx DESC LIMIT 1)
    ), 3) AS edge
) AS ended

-- name: watch_events :many
WITH mark AS MATERIALIZED (
    SELECT :lower::text::pg_snapshot AS lower, :upper::text::pg_snapshot AS upper
), changed AS MATERIALIZED (
    SELECT NULL::bigint AS deletion_id, NULL::bigint AS guild_id, event.job_id, event.seq, event.at, event.kind, event.stage, event.attempt, event.owner, event.operation_id, event.detail
    FROM {schema}.job_events AS event
    WHERE event.tx >= pg_snapshot_xmax((SELECT lower FROM mark)) AND event.tx < pg_snapshot_xmax((SELECT upper FROM mark))
      AND pg_visible_in_snapshot(event.tx, (SELECT upper FROM mark)) AND {tx_is_ours}
      AND event.job_id = :job_id::bigint   -- when: job
    UNION ALL
    SELECT NULL::bigint, NULL::bigint, event.job_id, event.seq, event.at, event.kind, event.stage, event.attempt, event.owner, event.operation_id, event.detail
    FROM pg_snapshot_xip((SELECT lower FROM mark)) AS open (tx) JOIN {schema}.job_events AS event ON event.tx = open.tx
    WHERE pg_visible_in_snapshot(event.tx, (SELECT upper FROM mark))
      AND event.job_id = :job_id::bigint   -- when: job
    UNION ALL
    SELECT event.deletion_id, event.guild_id, event.job_id, event.seq, event.at, {DELETED}, event.stage, event.attempt, NULL, event.operation_id, NULL
    FROM {schema}.job_deletions AS event
    WHERE event.tx >= pg_snapshot_xmax((SELECT lower FROM mark)) AND event.tx < pg_snapshot_xmax((SELECT upper FROM mark))
      AND pg_visible_in_snapshot(event.tx, (SELECT upper FROM mark)) AND {tx_is_ours}
      AND event.job_id = :job_id::bigint   -- when: job
    UNION ALL
    SELECT event.deletion_id, event.guild_id, event.job_id, event.seq, event.at, {DELETED}, event.stage, event.attempt, NULL, event.operation_id, NULL
    FROM pg_snapshot_xip((SELECT lower FROM mark)) AS open (tx) JOIN {schema}.job_deletions AS event ON event.tx = open.tx
    WHERE pg_visible_in_snapshot(event.tx, (SELECT upper FROM mark))
      AND event.job_id = :job_id::bigint   -- when: job
), placed AS (
    -- The time of an event is that of its statement, which may have waited for an earlier one.
    SELECT *, (least(greatest(extract(epoch FROM max(at) OVER (PARTITION BY job_id ORDER BY deletion_id NULLS LAST, seq)), -9e12), 9e12) * 1000000)::bigint AS place,
           coalesce(deletion_id, 9223372036854775807) AS life
    FROM changed
), named AS (
    SELECT placed.*, CASE WHEN placed.deletion_id IS NULL THEN job.guild_id ELSE placed.guild_id END AS guild
    FROM placed LEFT JOIN {schema}.jobs AS job ON job.job_id = placed.job_id
)
SELECT job_id, seq, at, kind, stage, attempt, owner, operation_id::text, detail,
       CASE WHEN kind NOT IN ({INSERTED}, {DELETED}) THEN (SELECT before.stage FROM {schema}.job_events AS before WHERE before.job_id = named.job_id AND before.seq = named.seq - 1) END,
       guild, place, life
FROM named
WHERE TRUE
  AND guild = :guild_id::bigint   -- when: guild
  AND (place, job_id, life, seq) > (:place::bigint, :place_job::bigint, :place_life::bigint, :place_seq::bigint)   -- when: after
ORDER BY place, job_id, life, seq
LIMIT :limit::bigint
