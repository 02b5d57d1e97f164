-- lock: the file, from writers
-- The permanent job log: libpndb's 14 columns first, under its names, without constraints of ours.
-- Booleans are 0 and 1; times are UTC text, 'YYYY-MM-DD HH:MM:SS.SSS'.
CREATE TABLE jobs (
    job_id          INTEGER PRIMARY KEY,
    author          TEXT,
    requested_at    INTEGER,
    job_type        INTEGER,
    preset          INTEGER,
    preset_concat   INTEGER,
    link            TEXT,
    directory       TEXT,
    ready           INTEGER,
    message_id      INTEGER,
    channel_id      INTEGER,
    created_at      TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    completed_at    TEXT,
    archived        INTEGER DEFAULT 0,
    author_id       INTEGER,
    guild_id        INTEGER,
    external_id     TEXT,
    idempotency_key TEXT,
    operation_id    TEXT,
    priority        INTEGER NOT NULL DEFAULT 0,
    attempt         INTEGER NOT NULL DEFAULT 0,
    max_attempts    INTEGER,
    not_before      REAL,
    hold            INTEGER NOT NULL DEFAULT 0 CONSTRAINT jobs_hold CHECK (hold BETWEEN 0 AND 2),
    name            TEXT,
    tags            TEXT CONSTRAINT jobs_tags CHECK (tags IS NULL OR json_valid(tags)),
    concurrency_key TEXT,
    progress        REAL CONSTRAINT jobs_progress CHECK (progress BETWEEN 0 AND 1),
    progress_data   TEXT CONSTRAINT jobs_progress_data CHECK (progress_data IS NULL OR json_valid(progress_data)),
    current_step    TEXT,
    output_kind     TEXT,
    output          TEXT CONSTRAINT jobs_output CHECK (output IS NULL OR json_valid(output)),
    output_file     TEXT,
    error           TEXT,
    config          TEXT CONSTRAINT jobs_config CHECK (config IS NULL OR json_valid(config)),
    params          BLOB,
    updated_at      TEXT,
    lease_token     INTEGER,
    lease_owner     TEXT,
    lease_until     TEXT,
    event_seq       INTEGER NOT NULL DEFAULT 1
) STRICT;

-- All ascending, and read backwards where the newest are wanted: what comes in order of time is appended,
-- and its pages are filled. In a descending index they stay half empty.
CREATE INDEX idx_jobs_ready ON jobs (ready, (-priority), requested_at, job_id) WHERE NOT archived;
CREATE INDEX idx_jobs_author ON jobs (author, requested_at, job_id);
CREATE INDEX idx_jobs_archived ON jobs (completed_at, job_id) WHERE archived;
-- Known by another expression than idx_jobs_ready: a plan that was made while the table was empty must
-- not claim by it.
CREATE INDEX idx_jobs_active ON jobs (requested_at, job_id) WHERE NOT coalesce(archived, TRUE);
CREATE INDEX idx_jobs_requested ON jobs (requested_at, job_id);
CREATE INDEX idx_jobs_author_id ON jobs (author_id, requested_at, job_id) WHERE author_id IS NOT NULL;
CREATE INDEX idx_jobs_guild ON jobs (guild_id, requested_at, job_id) WHERE guild_id IS NOT NULL;
CREATE UNIQUE INDEX idx_jobs_external ON jobs (external_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX idx_jobs_idempotency ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX idx_jobs_operation ON jobs (operation_id) WHERE operation_id IS NOT NULL;

-- SQLite has no sequences: one row, the highest id that was given out without a job.
CREATE TABLE job_ids (
    only_row INTEGER PRIMARY KEY CONSTRAINT job_ids_only_row CHECK (only_row = 1),
    value    INTEGER NOT NULL CONSTRAINT job_ids_value CHECK (value BETWEEN 0 AND 9007199254740991)
) STRICT;
INSERT INTO job_ids (only_row, value) VALUES (1, 0);

CREATE TABLE stages (
    code       INTEGER PRIMARY KEY,
    pipeline   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CONSTRAINT stages_kind
               CHECK (kind IN ('draft', 'waiting', 'working', 'done', 'failed', 'cancelled')),
    returns_to INTEGER
) STRICT;

-- What becomes of a job whose worker was lost, for a stage (key: its code) or a job name.
CREATE TABLE recovery_policies (
    scope  TEXT NOT NULL CONSTRAINT recovery_policies_scope CHECK (scope IN ('stage', 'name')),
    key    TEXT NOT NULL,
    action TEXT NOT NULL CONSTRAINT recovery_policies_action CHECK (action IN ('requeue', 'fail')),
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

-- The jobs that are claimed at once share a token, which is never given out twice.
CREATE TABLE lease_tokens (
    only_row INTEGER PRIMARY KEY CONSTRAINT lease_tokens_only_row CHECK (only_row = 1),
    value    INTEGER NOT NULL
) STRICT;
INSERT INTO lease_tokens (only_row, value) VALUES (1, 0);

-- The newest two states of a job at a stage. Part 0 is all of a small state, or says which parts make
-- up a large one; a part that did not change stays under the seq that it was written with.
CREATE TABLE job_checkpoints (
    job_id  INTEGER NOT NULL,
    stage   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    part    INTEGER NOT NULL,
    at      TEXT NOT NULL,
    damaged INTEGER NOT NULL DEFAULT 0,
    data    BLOB NOT NULL,
    PRIMARY KEY (job_id, stage, seq, part)
) STRICT;

-- Which job a job was begun for. `key` tells the children of one parent apart: the parent's next attempt
-- finds the child that the attempt before it began.
CREATE TABLE job_children (
    parent_id INTEGER NOT NULL,
    key       TEXT NOT NULL,
    child_id  INTEGER NOT NULL,
    PRIMARY KEY (parent_id, key)
) STRICT;
CREATE UNIQUE INDEX idx_job_children_child ON job_children (child_id);

-- What handlers say: the newest lines of each job. `seq` counts those that are gone too.
-- The last line of a call has its operation, by which a repeated call is known.
CREATE TABLE job_logs (
    job_id       INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    at           TEXT NOT NULL,
    level        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    stage        INTEGER,
    message      TEXT NOT NULL,
    operation_id TEXT,
    PRIMARY KEY (job_id, seq)
) STRICT;

-- AUTOINCREMENT: the number of an event that went with its job must not come again, or a watcher
-- would take the new event for the old one.
CREATE TABLE job_events (
    event_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id       INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    at           TEXT NOT NULL,
    kind         INTEGER NOT NULL,
    stage        INTEGER,
    attempt      INTEGER NOT NULL,
    owner        TEXT,
    operation_id TEXT,
    detail       TEXT,
    UNIQUE (job_id, seq)
) STRICT;

-- What remains of a deleted job: that it was, and who deleted it when.
CREATE TABLE job_deletions (
    deletion_id  INTEGER PRIMARY KEY,
    job_id       INTEGER NOT NULL,
    at           TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    author       TEXT,
    stage        INTEGER,
    attempt      INTEGER NOT NULL,
    operation_id TEXT,
    guild_id     INTEGER
) STRICT;
CREATE INDEX idx_job_deletions_job ON job_deletions (job_id);

-- Our own statements move event_seq and write their event themselves; these triggers record
-- every other program. `updated_at` is the mark of our own inserts.
CREATE TRIGGER jobs_record_insert AFTER INSERT ON jobs
WHEN NEW.updated_at IS NULL
BEGIN
    -- REPLACE INTO takes a job away without a word to the other triggers; its events tell.
    SELECT RAISE(ABORT, 'REPLACE would lose the history of a job: UPDATE or DELETE it')
    WHERE EXISTS (SELECT 1 FROM job_events WHERE job_id = NEW.job_id);
    INSERT INTO job_events (job_id, seq, at, kind, stage, attempt)
    VALUES (NEW.job_id, NEW.event_seq, strftime('%Y-%m-%d %H:%M:%f', 'now'), 1, NEW.ready, NEW.attempt);
END;

CREATE TRIGGER jobs_record_update AFTER UPDATE ON jobs
WHEN NEW.event_seq = OLD.event_seq
     AND (NEW.ready IS NOT OLD.ready OR NEW.archived IS NOT OLD.archived OR NEW.hold IS NOT OLD.hold)
BEGIN
    UPDATE jobs SET event_seq = event_seq + 1, updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
    WHERE job_id = NEW.job_id;
    -- An override, like our own: whoever worked on it has lost it.
    UPDATE jobs SET lease_token = NULL, lease_owner = NULL, lease_until = NULL
    WHERE job_id = NEW.job_id AND lease_token IS NOT NULL
      AND (NEW.ready IS NOT OLD.ready OR NEW.archived IS NOT OLD.archived);
    INSERT INTO job_events (job_id, seq, at, kind, stage, attempt)
    VALUES (NEW.job_id, NEW.event_seq + 1, strftime('%Y-%m-%d %H:%M:%f', 'now'),
            CASE WHEN NEW.ready IS NOT OLD.ready THEN 2
                 WHEN NEW.archived AND OLD.archived IS NOT TRUE THEN 3
                 ELSE 11 END,
            NEW.ready, NEW.attempt);
END;

CREATE TRIGGER jobs_touch AFTER UPDATE ON jobs
WHEN NEW.event_seq = OLD.event_seq AND NEW.updated_at IS OLD.updated_at
     AND NEW.ready IS OLD.ready AND NEW.archived IS OLD.archived AND NEW.hold IS OLD.hold
     AND NEW.lease_until IS OLD.lease_until
BEGIN
    UPDATE jobs SET updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') WHERE job_id = NEW.job_id;
END;

CREATE TRIGGER jobs_keep_id BEFORE UPDATE OF job_id ON jobs
WHEN NEW.job_id <> OLD.job_id
BEGIN
    SELECT RAISE(ABORT, 'a job keeps its id: its history hangs on it');
END;

-- Deleting a job takes what hangs on it along and leaves a line in job_deletions.
CREATE TRIGGER jobs_record_delete AFTER DELETE ON jobs
BEGIN
    INSERT INTO job_deletions (job_id, at, seq, author, stage, attempt, guild_id)
    VALUES (OLD.job_id, strftime('%Y-%m-%d %H:%M:%f', 'now'), OLD.event_seq + 1, OLD.author, OLD.ready, OLD.attempt, OLD.guild_id);
    DELETE FROM job_events WHERE job_id = OLD.job_id;
    DELETE FROM job_checkpoints WHERE job_id = OLD.job_id;
    DELETE FROM job_logs WHERE job_id = OLD.job_id;
    DELETE FROM job_children WHERE parent_id = OLD.job_id;
    DELETE FROM job_children WHERE child_id = OLD.job_id;
END;

CREATE TRIGGER job_events_keep BEFORE UPDATE ON job_events
BEGIN
    SELECT RAISE(ABORT, 'the events of a job are append-only');
END;

CREATE TRIGGER job_events_guard BEFORE DELETE ON job_events
WHEN EXISTS (SELECT 1 FROM jobs WHERE job_id = OLD.job_id)
BEGIN
    SELECT RAISE(ABORT, 'the events of a job are append-only while it exists');
END;

CREATE VIEW job_overview AS
SELECT job.job_id, job.author, job.name, stage.name AS stage, stage.kind,
       datetime(job.requested_at, 'unixepoch') AS requested_at, job.priority, job.attempt, job.progress,
       datetime(job.not_before, 'unixepoch') AS not_before, job.lease_owner, job.lease_until,
       job.archived, job.completed_at, job.error, job.link
FROM jobs AS job LEFT JOIN stages AS stage ON stage.code = job.ready;
