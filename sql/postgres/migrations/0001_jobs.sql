-- lock: jobs, from readers and writers alike; 17 us a row
-- The permanent job log. `jobs` is libpndb's table: its 14 columns come first and carry no constraint
-- of ours, since whatever libpndb stored must stay readable and its own statements must keep working.
-- The same file makes the table, or adopts the one that libpndb made.
CREATE TABLE IF NOT EXISTS {schema}.jobs (
    job_id        BIGINT PRIMARY KEY,
    author        TEXT,
    requested_at  BIGINT,
    job_type      SMALLINT,
    preset        SMALLINT,
    preset_concat SMALLINT,
    link          TEXT,
    directory     TEXT,
    ready         SMALLINT,
    message_id    BIGINT,
    channel_id    BIGINT,
    created_at    TIMESTAMP DEFAULT now(),
    completed_at  TIMESTAMP,
    archived      BOOLEAN DEFAULT FALSE
);

-- Existing rows keep event_seq 0: nobody recorded how they came. `has_checkpoints` is set by the first and
-- never taken back: to look for some was a twelfth of what the end of a claim costs the server.
ALTER TABLE {schema}.jobs
    ADD COLUMN author_id       BIGINT,
    ADD COLUMN guild_id        BIGINT,
    ADD COLUMN external_id     TEXT,
    ADD COLUMN idempotency_key TEXT,
    ADD COLUMN operation_id    UUID,
    ADD COLUMN priority        SMALLINT NOT NULL DEFAULT 0,
    ADD COLUMN attempt         INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN max_attempts    SMALLINT,
    ADD COLUMN not_before      DOUBLE PRECISION,
    ADD COLUMN hold            SMALLINT NOT NULL DEFAULT 0 CONSTRAINT jobs_hold CHECK (hold BETWEEN 0 AND 2),
    ADD COLUMN name            TEXT,
    ADD COLUMN tags            JSONB,
    ADD COLUMN concurrency_key TEXT,
    ADD COLUMN progress        DOUBLE PRECISION CONSTRAINT jobs_progress CHECK (progress BETWEEN 0 AND 1),
    ADD COLUMN progress_data   JSONB,
    ADD COLUMN current_step    TEXT,
    ADD COLUMN output_kind     TEXT,
    ADD COLUMN output          JSONB,
    ADD COLUMN output_file     TEXT,
    ADD COLUMN error           TEXT,
    ADD COLUMN config          JSONB,
    ADD COLUMN params          BYTEA,
    ADD COLUMN updated_at      TIMESTAMPTZ,
    ADD COLUMN lease_token     BIGINT,
    ADD COLUMN lease_owner     TEXT,
    ADD COLUMN lease_until     TIMESTAMPTZ,
    ADD COLUMN event_seq       INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN has_checkpoints BOOLEAN NOT NULL DEFAULT FALSE;

-- A foreign INSERT leaves event_seq out: its event, written by a trigger, is number 1.
ALTER TABLE {schema}.jobs ALTER COLUMN event_seq SET DEFAULT 1;

-- Room on the page for the updates of progress and leases, and vacuum before they pile up.
ALTER TABLE {schema}.jobs SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);

DROP INDEX IF EXISTS {schema}.idx_jobs_ready;
DROP INDEX IF EXISTS {schema}.idx_jobs_author;
DROP INDEX IF EXISTS {schema}.idx_jobs_archived;
-- All ascending, and read backwards where the newest are wanted: what comes in order of time is appended,
-- and its pages are filled. In a descending index they stay half empty.
CREATE INDEX idx_jobs_ready ON {schema}.jobs (ready, (-priority), requested_at, job_id) WHERE NOT archived;
CREATE INDEX idx_jobs_archived ON {schema}.jobs (completed_at NULLS FIRST, job_id) WHERE archived;
CREATE UNIQUE INDEX idx_jobs_external ON {schema}.jobs (external_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX idx_jobs_idempotency ON {schema}.jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- What a job is listed by, in a table that stays as it is while the job moves: the new version of a row of
-- `jobs` that moves has an entry in each index there. The one by author was a sixth of what a claim and its
-- end cost the server, with those by id and guild a third, and two by time, of the active jobs and of the
-- others, a tenth. The columns are named apart from those of `jobs`, which they are joined with.
CREATE TABLE {schema}.job_lists (
    job_id       BIGINT PRIMARY KEY,
    by_author    TEXT,
    by_author_id BIGINT,
    by_guild_id  BIGINT,
    by_request   BIGINT
);
INSERT INTO {schema}.job_lists (job_id, by_author, by_author_id, by_guild_id, by_request)
SELECT job_id, author, author_id, guild_id, requested_at FROM {schema}.jobs;
CREATE INDEX idx_jobs_requested ON {schema}.job_lists (by_request, job_id);
-- libpndb makes an index of this name on `jobs` at its start, unless there is one.
CREATE INDEX idx_jobs_author ON {schema}.job_lists (by_author, by_request, job_id);
CREATE INDEX idx_jobs_author_id ON {schema}.job_lists (by_author_id, by_request, job_id) WHERE by_author_id IS NOT NULL;
CREATE INDEX idx_jobs_guild ON {schema}.job_lists (by_guild_id, by_request, job_id) WHERE by_guild_id IS NOT NULL;

-- Generated ids start above the adopted ones, but never where JSON readers lose digits.
CREATE SEQUENCE {schema}.job_ids AS BIGINT MINVALUE 1 MAXVALUE 9007199254740991;
SELECT setval('{schema}.job_ids', coalesce(max(job_id), 0) + 1, FALSE)
FROM {schema}.jobs WHERE job_id BETWEEN 0 AND 4503599627370496;

CREATE TABLE {schema}.stages (
    code       SMALLINT PRIMARY KEY,
    pipeline   SMALLINT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CONSTRAINT stages_kind
               CHECK (kind IN ('draft', 'waiting', 'working', 'done', 'failed', 'cancelled')),
    returns_to SMALLINT
);

-- What becomes of a job whose worker was lost, for a stage (key: its code) or a job name.
CREATE TABLE {schema}.recovery_policies (
    scope  TEXT NOT NULL CONSTRAINT recovery_policies_scope CHECK (scope IN ('stage', 'name')),
    key    TEXT NOT NULL,
    action TEXT NOT NULL CONSTRAINT recovery_policies_action CHECK (action IN ('requeue', 'fail')),
    PRIMARY KEY (scope, key)
);

-- A token is never given out twice: by it a write proves that its claim still counts.
CREATE SEQUENCE {schema}.lease_tokens AS BIGINT;

-- The newest two states of a job at a stage. Part 0 is all of a small state, or says which parts make
-- up a large one; a part that did not change stays under the seq that it was written with.
CREATE TABLE {schema}.job_checkpoints (
    job_id  BIGINT NOT NULL,
    stage   SMALLINT NOT NULL,
    seq     INTEGER NOT NULL,
    part    INTEGER NOT NULL,
    at      TIMESTAMPTZ NOT NULL,
    damaged BOOLEAN NOT NULL DEFAULT FALSE,
    data    BYTEA NOT NULL,
    PRIMARY KEY (job_id, stage, seq, part)
);
ALTER TABLE {schema}.job_checkpoints ALTER COLUMN data SET STORAGE EXTERNAL;

-- Which job a job was begun for. `key` tells the children of one parent apart: the parent's next attempt
-- finds the child that the attempt before it began.
CREATE TABLE {schema}.job_children (
    parent_id BIGINT NOT NULL,
    key       TEXT NOT NULL,
    child_id  BIGINT NOT NULL,
    PRIMARY KEY (parent_id, key)
);
CREATE UNIQUE INDEX idx_job_children_child ON {schema}.job_children (child_id);

-- What handlers say: the newest lines of each job. `seq` counts those that are gone too.
-- The last line of a call has its operation, by which a repeated call is known.
CREATE TABLE {schema}.job_logs (
    job_id       BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    at           TIMESTAMPTZ NOT NULL,
    level        SMALLINT NOT NULL,
    attempt      INTEGER NOT NULL,
    stage        SMALLINT,
    message      TEXT NOT NULL,
    operation_id UUID,
    PRIMARY KEY (job_id, seq)
);

CREATE TABLE {schema}.job_events (
    job_id       BIGINT NOT NULL,
    seq          INTEGER NOT NULL,
    at           TIMESTAMPTZ NOT NULL,
    kind         SMALLINT NOT NULL,
    stage        SMALLINT,
    attempt      INTEGER NOT NULL,
    owner        TEXT,
    operation_id UUID,
    detail       TEXT,
    tx           XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (job_id, seq)
);
-- What a watcher has not seen is found by the transaction that wrote it. A B-tree, since a BRIN index
-- makes every read scan what nobody has summarized yet.
CREATE INDEX idx_job_events_tx ON {schema}.job_events (tx);
-- By its operation an insert is found again. The index stands here since each change of a job would
-- add another entry to one of `jobs`.
CREATE UNIQUE INDEX idx_job_events_operation ON {schema}.job_events (operation_id) WHERE kind = 1;

-- What remains of a deleted job: that it was, and who deleted it when.
CREATE TABLE {schema}.job_deletions (
    deletion_id  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id       BIGINT NOT NULL,
    at           TIMESTAMPTZ NOT NULL,
    seq          INTEGER NOT NULL,
    author       TEXT,
    stage        SMALLINT,
    attempt      INTEGER NOT NULL,
    operation_id UUID,
    guild_id     BIGINT,
    tx           XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX idx_job_deletions_job ON {schema}.job_deletions (job_id);
CREATE INDEX idx_job_deletions_tx ON {schema}.job_deletions (tx);

-- Our own statements move event_seq and write their event themselves; these triggers record
-- every other program. `updated_at` is the mark of our own inserts. SECURITY DEFINER: a role that
-- may write `jobs` alone, as libpndb's does, must not fail for want of a right on our tables.
CREATE FUNCTION {schema}.jobs_record_insert() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt)
    VALUES (NEW.job_id, NEW.event_seq, statement_timestamp(), 1, NEW.ready, NEW.attempt);
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_record_insert AFTER INSERT ON {schema}.jobs FOR EACH ROW
    WHEN (NEW.updated_at IS NULL)
    EXECUTE FUNCTION {schema}.jobs_record_insert();

-- One trigger for both, since each costs our own updates a look at its WHEN. Neither the heartbeat nor a
-- checkpoint is a change.
CREATE FUNCTION {schema}.jobs_record_update() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := statement_timestamp();
    IF NEW.ready IS NOT DISTINCT FROM OLD.ready AND NEW.archived IS NOT DISTINCT FROM OLD.archived
       AND NEW.hold = OLD.hold THEN
        RETURN NEW;
    END IF;
    IF NEW.ready IS DISTINCT FROM OLD.ready OR NEW.archived IS DISTINCT FROM OLD.archived THEN
        NEW.lease_token := NULL;  -- an override, like our own: whoever worked on it has lost it
        NEW.lease_owner := NULL;
        NEW.lease_until := NULL;
    END IF;
    NEW.event_seq := OLD.event_seq + 1;
    INSERT INTO {schema}.job_events (job_id, seq, at, kind, stage, attempt)
    VALUES (NEW.job_id, NEW.event_seq, statement_timestamp(),
            CASE WHEN NEW.ready IS DISTINCT FROM OLD.ready THEN 2
                 WHEN NEW.archived AND OLD.archived IS NOT TRUE THEN 3
                 ELSE 11 END,
            NEW.ready, NEW.attempt);
    RETURN NEW;
END $$;
CREATE TRIGGER jobs_record_update BEFORE UPDATE ON {schema}.jobs FOR EACH ROW
    WHEN (NEW.event_seq = OLD.event_seq
          AND (NEW.ready IS DISTINCT FROM OLD.ready
               OR NEW.archived IS DISTINCT FROM OLD.archived
               OR NEW.hold IS DISTINCT FROM OLD.hold
               OR NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at
                  AND NEW.lease_until IS NOT DISTINCT FROM OLD.lease_until
                  AND NEW.has_checkpoints = OLD.has_checkpoints))
    EXECUTE FUNCTION {schema}.jobs_record_update();

-- The lists follow every program. What a trigger is told of a row may be older than the row, which somebody
-- else's has changed once more: so it looks. Our own inserts list their jobs themselves, since a trigger
-- costs each row a call. They are known by `updated_at`, which is of their transaction; that of a row which
-- was copied from elsewhere is older.
CREATE FUNCTION {schema}.jobs_list() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.job_lists (job_id, by_author, by_author_id, by_guild_id, by_request)
    SELECT job_id, author, author_id, guild_id, requested_at FROM {schema}.jobs WHERE job_id = NEW.job_id
    ON CONFLICT (job_id) DO UPDATE
    SET by_author = excluded.by_author, by_author_id = excluded.by_author_id,
        by_guild_id = excluded.by_guild_id, by_request = excluded.by_request;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_list_insert AFTER INSERT ON {schema}.jobs FOR EACH ROW
    WHEN (NEW.updated_at IS NULL OR NEW.updated_at < now())
    EXECUTE FUNCTION {schema}.jobs_list();
CREATE TRIGGER jobs_list_update AFTER UPDATE ON {schema}.jobs FOR EACH ROW
    WHEN ((NEW.author, NEW.author_id, NEW.guild_id, NEW.requested_at)
          IS DISTINCT FROM (OLD.author, OLD.author_id, OLD.guild_id, OLD.requested_at))
    EXECUTE FUNCTION {schema}.jobs_list();

CREATE FUNCTION {schema}.jobs_keep_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'job % keeps its id: its history hangs on it', OLD.job_id USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER jobs_keep_id BEFORE UPDATE OF job_id ON {schema}.jobs FOR EACH ROW
    WHEN (NEW.job_id <> OLD.job_id)
    EXECUTE FUNCTION {schema}.jobs_keep_id();

-- Deleting a job takes what hangs on it along and leaves a line in job_deletions. A foreign key would do
-- the same, but costs a fifth of every batched insert. The setting is how delete_job signs its own.
CREATE FUNCTION {schema}.jobs_record_delete() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.job_deletions (job_id, at, seq, author, stage, attempt, operation_id, guild_id)
    SELECT job_id, statement_timestamp(), event_seq + 1, author, ready, attempt,
           nullif(current_setting('pandora_db.operation_id', TRUE), '')::uuid, guild_id
    FROM gone;
    DELETE FROM {schema}.job_lists AS listed USING gone WHERE listed.job_id = gone.job_id;
    DELETE FROM {schema}.job_events AS event USING gone WHERE event.job_id = gone.job_id;
    DELETE FROM {schema}.job_checkpoints AS checkpoint USING gone WHERE checkpoint.job_id = gone.job_id;
    DELETE FROM {schema}.job_logs AS line USING gone WHERE line.job_id = gone.job_id;
    DELETE FROM {schema}.job_children AS child USING gone WHERE child.parent_id = gone.job_id;
    DELETE FROM {schema}.job_children AS child USING gone WHERE child.child_id = gone.job_id;
    PERFORM set_config('pandora_db.operation_id', '', TRUE);
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_record_delete AFTER DELETE ON {schema}.jobs
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION {schema}.jobs_record_delete();

-- What the end of a claim drops. A statement of its own, for the snapshot: that of the UPDATE which waited
-- for a save under way is older than the save, and would leave its checkpoint behind. No stage: all of them.
CREATE FUNCTION {schema}.drop_checkpoints(job_ids BIGINT[], stages SMALLINT[]) RETURNS VOID LANGUAGE plpgsql STRICT AS $$
BEGIN
    DELETE FROM {schema}.job_checkpoints AS checkpoint
    USING unnest(job_ids, stages) AS ended (job_id, stage)
    WHERE checkpoint.job_id = ended.job_id AND (ended.stage IS NULL OR checkpoint.stage = ended.stage);
END $$;

-- What append_logs asks under the lock on the job, for the snapshot likewise: that of the statement which
-- waited for the lock does not show the lines of whoever had it. The last number so far; `kept` lines stay.
CREATE FUNCTION {schema}.make_room_for_logs(job BIGINT, kept BIGINT) RETURNS BIGINT LANGUAGE plpgsql STRICT AS $$
DECLARE
    last BIGINT;
BEGIN
    SELECT coalesce(max(seq), 0) INTO last FROM {schema}.job_logs WHERE job_id = job;
    DELETE FROM {schema}.job_logs WHERE job_id = job AND seq <= last - kept;
    RETURN last;
END $$;
CREATE FUNCTION {schema}.find_logs(job BIGINT, operation UUID) RETURNS BIGINT LANGUAGE plpgsql STRICT AS $$
BEGIN
    RETURN (SELECT max(seq) FROM {schema}.job_logs WHERE job_id = job AND operation_id = operation);
END $$;

-- What a repeated operation asks of the job that it is about to change, for the snapshot likewise.
CREATE FUNCTION {schema}.was_done(job BIGINT, operation UUID) RETURNS BOOLEAN LANGUAGE plpgsql STRICT AS $$
BEGIN
    RETURN EXISTS (SELECT FROM {schema}.job_events WHERE job_id = job AND operation_id = operation);
END $$;

CREATE FUNCTION {schema}.jobs_refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is a permanent log: DELETE the jobs that may go', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER jobs_refuse_truncate BEFORE TRUNCATE ON {schema}.jobs FOR EACH STATEMENT
    EXECUTE FUNCTION {schema}.jobs_refuse_truncate();
CREATE TRIGGER job_events_refuse_truncate BEFORE TRUNCATE ON {schema}.job_events FOR EACH STATEMENT
    EXECUTE FUNCTION {schema}.jobs_refuse_truncate();

CREATE FUNCTION {schema}.job_events_guard() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM {schema}.jobs WHERE job_id = OLD.job_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the events of job % are append-only while it exists', OLD.job_id USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER job_events_guard BEFORE UPDATE OR DELETE ON {schema}.job_events FOR EACH ROW
    EXECUTE FUNCTION {schema}.job_events_guard();

CREATE VIEW {schema}.job_overview AS
SELECT job.job_id, job.author, job.name, stage.name AS stage, stage.kind,
       to_timestamp(job.requested_at) AS requested_at, job.priority, job.attempt, job.progress,
       to_timestamp(job.not_before) AS not_before, job.lease_owner, job.lease_until,
       job.archived, job.completed_at, job.error, job.link
FROM {schema}.jobs AS job LEFT JOIN {schema}.stages AS stage ON stage.code = job.ready;
