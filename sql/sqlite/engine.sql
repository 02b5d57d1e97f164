-- What only this engine needs.

-- PostgreSQL takes the same rows by COPY, which has no text. A crowd of insert_job is stored so too.
-- name: load_jobs :batch
INSERT INTO {schema}.jobs (
    job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready,
    message_id, channel_id, author_id, guild_id, external_id, idempotency_key, priority, config,
    name, tags, concurrency_key, not_before, max_attempts, params, created_at, updated_at
)
VALUES (
    :job_id, :author, :requested_at, :job_type, :preset, :preset_concat, :link, :directory, :ready,
    :message_id, :channel_id, :author_id, :guild_id, :external_id, :idempotency_key, :priority,
    :config, :name, :tags, :concurrency_key, :not_before, :max_attempts, :params, :created_at, :updated_at
)

-- name: record_inserted :batch
INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt, operation_id)
VALUES (:job_id, 1, :at, {INSERTED}, :stage, 0, :operation_id)

-- A rollback takes the counter back; the numbers it gave out must not come again.
-- name: last_reserved_id :one
SELECT {next_id} - 1

-- name: keep_reserved_ids :none
UPDATE {schema}.job_ids SET value = :value WHERE value < :value

-- The id that the next insert would be given.
-- name: next_job_id :one
SELECT {next_id}

-- A crowd of update_stage or end_claim is one INSERT into a view, whose trigger does for each row what
-- the query does for a call. It gives up unless every row changes its job: then each call is run by itself.
-- One statement is a transaction of its own, and one stretch in which others have the interpreter.
-- name: make_crowds :script
CREATE TEMP VIEW IF NOT EXISTS stage_changes AS
SELECT NULL AS job_id, NULL AS stage, NULL AS lowest, NULL AS highest, NULL AS restarts, NULL AS operation_id, NULL AS now;

CREATE TEMP TRIGGER IF NOT EXISTS change_stage INSTEAD OF INSERT ON stage_changes BEGIN
    UPDATE jobs
    SET ready = NEW.stage, event_seq = event_seq + 1, updated_at = NEW.now,
        attempt = CASE WHEN NEW.restarts AND ready <> NEW.stage THEN 0 ELSE attempt END,
        lease_token = NULL, lease_owner = NULL, lease_until = NULL
    WHERE job_id = NEW.job_id AND ready BETWEEN NEW.lowest AND NEW.highest
      AND (ready <> NEW.stage OR lease_token IS NOT NULL);
    SELECT RAISE(ABORT, 'not alike') WHERE changes() <> 1;
    INSERT INTO job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, event_seq, updated_at, {STAGE}, ready, attempt, NEW.operation_id FROM jobs WHERE job_id = NEW.job_id;
END;

CREATE TEMP VIEW IF NOT EXISTS claim_ends AS
SELECT NULL AS job_id, NULL AS token, NULL AS attempt, NULL AS attempt_left, NULL AS operation_id, NULL AS owner,
       NULL AS stage, NULL AS archived, NULL AS cancelled, NULL AS worked, NULL AS kind, NULL AS dropped, NULL AS keep_error,
       NULL AS not_before, NULL AS error, NULL AS detail, NULL AS output_kind, NULL AS output, NULL AS output_file, NULL AS now;

-- Not where a job was to be cancelled: it may end elsewhere.
CREATE TEMP TRIGGER IF NOT EXISTS end_claim INSTEAD OF INSERT ON claim_ends BEGIN
    UPDATE jobs
    SET ready = NEW.stage, archived = NEW.archived,
        completed_at = CASE WHEN NEW.archived THEN coalesce(completed_at, NEW.now) ELSE completed_at END,
        hold = CASE WHEN NEW.archived THEN 0 ELSE hold END,
        attempt = NEW.attempt_left, not_before = NEW.not_before,
        error = CASE WHEN NEW.keep_error THEN error ELSE NEW.error END,
        output_kind = coalesce(NEW.output_kind, output_kind), output = coalesce(NEW.output, output),
        output_file = coalesce(NEW.output_file, output_file),
        lease_token = NULL, lease_owner = NULL, lease_until = NULL,
        event_seq = event_seq + 1, updated_at = NEW.now
    WHERE job_id = NEW.job_id AND lease_token = NEW.token AND (hold <> 2 OR NEW.cancelled IS NULL);
    SELECT RAISE(ABORT, 'not alike') WHERE changes() <> 1;
    INSERT INTO job_events (job_id, seq, at, kind, stage, attempt, owner, operation_id, detail)
    SELECT job_id, event_seq, updated_at, NEW.kind, ready, NEW.attempt, NEW.owner, NEW.operation_id, NEW.detail
    FROM jobs WHERE job_id = NEW.job_id;
    DELETE FROM job_checkpoints
    WHERE job_id = NEW.job_id AND (NEW.dropped = 2 OR NEW.dropped = 1 AND stage = NEW.worked);
END;

-- The job of a row; none, so that its trigger gives up, where a trigger of another program could have the
-- statement fail and keep what it has done so far, half of a call among it.
-- fragment: whole
CASE WHEN NOT EXISTS (SELECT 1 FROM {schema}.sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%FAIL%') THEN column1 END

-- Rows of '' only fill a statement up to its length.
-- name: update_stages :batch
INSERT INTO temp.stage_changes
SELECT {whole}, column2, column3, column4, column5, column6, {now}
FROM (VALUES (:job_id, :stage, :lowest, :highest, :restarts, :operation_id)) WHERE column1 <> ''

-- name: end_claims :batch
INSERT INTO temp.claim_ends
SELECT {whole}, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, column12,
       column13, {now_seconds} + column14, column15, column16, column17, column18, column19, {now}
FROM (VALUES (
    :job_id, :token, :attempt, :attempt_left, :operation_id, :owner, :stage, :archived, :cancelled, :worked, :kind, :drop,
    :keep_error, :delay, :error, :detail, :output_kind, :output, :output_file
)) WHERE column1 <> ''

-- The same where all calls are one worker's and end in one way without an output, as most do.
-- name: end_claims_alike :batch
INSERT INTO temp.claim_ends
SELECT {whole}, column2, column3, column4, column5, :owner, :stage, :archived, :cancelled, :worked, :kind, :drop,
       :keep_error, {now_seconds} + :delay, :error, :detail, NULL, NULL, NULL, {now}
FROM (VALUES (:job_id, :token, :attempt, :attempt_left, :operation_id)) WHERE column1 <> ''
