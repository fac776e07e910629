-- Version 1. See decisions/0013-sqlite-schema.md for why it looks like this.

CREATE TABLE queue (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    -- Jobs per state, kept in step by every transaction, so that counting never reads jobs.
    ready     INTEGER NOT NULL DEFAULT 0,
    scheduled INTEGER NOT NULL DEFAULT 0,
    claimed   INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0,
    -- Sums since the file was created.
    enqueued  INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    died      INTEGER NOT NULL DEFAULT 0,
    discarded INTEGER NOT NULL DEFAULT 0,
    recovered INTEGER NOT NULL DEFAULT 0
);

-- The job itself. Which of the four tables below names its seq is its state: ready, scheduled, claimed or
-- dead, always exactly one. Claiming moves a few bytes between those and never rewrites the envelope.
CREATE TABLE job (
    seq        INTEGER PRIMARY KEY,
    id         BLOB NOT NULL,
    queue      INTEGER NOT NULL,
    -- The keys under which the state's table names it, so that a job is found there by its id.
    rank       INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    -- Why a scheduled job waits: 0 scheduled, 1 retry, 2 snoozed, 3 recovered.
    kind       INTEGER NOT NULL DEFAULT 0,
    -- How often in a row it was taken from a dead worker.
    recoveries INTEGER NOT NULL DEFAULT 0,
    envelope   BLOB NOT NULL
);
CREATE UNIQUE INDEX job_by_id ON job (id);

-- In line: rank is 0 at the end of the queue, negative and falling at its front; then by seq.
-- job.at is the time since when.
CREATE TABLE ready (
    queue INTEGER NOT NULL,
    rank  INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, seq)
) WITHOUT ROWID;

-- Waiting for their time, in milliseconds since the epoch. Claimed from here once due.
CREATE TABLE scheduled (
    queue INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (queue, at, seq)
) WITHOUT ROWID;
CREATE INDEX scheduled_by_time ON scheduled (at, seq);

-- Held by a session: claim is lease << 32 | number within the lease, and never comes twice.
CREATE TABLE claimed (
    claim INTEGER PRIMARY KEY,
    seq   INTEGER NOT NULL,
    queue INTEGER NOT NULL
);

-- In the order of their deaths; rank tells those of one millisecond apart.
CREATE TABLE dead (
    at     INTEGER NOT NULL,
    rank   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    cause  TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (at, rank)
) WITHOUT ROWID;

-- One row per live consumer. Whoever sees `beats` unchanged for `lease_ms` on its own monotonic clock may
-- declare the owner dead; no wall clock is involved.
CREATE TABLE lease (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    worker     BLOB NOT NULL,
    host       TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    queues     TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    lease_ms   INTEGER NOT NULL,
    beats      INTEGER NOT NULL DEFAULT 0,
    -- 0 live, 1 stopped in good order with jobs still running, 2 found dead, its jobs being recovered,
    -- 3 the same after having been stopped in good order.
    state      INTEGER NOT NULL DEFAULT 0
);

-- The last rank that was given to a job at the front of its queue, or, negated, to a dead job.
CREATE TABLE front (rank INTEGER NOT NULL);
INSERT INTO front VALUES (0);
