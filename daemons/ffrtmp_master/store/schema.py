"""The tables, as steps from each schema version to the next.

A step that has been released is never edited: a database of version N is brought up by the steps from N on, and the result
is the same as that of a new one. Words that a column may hold stand here in full and not built from the enums, because a
step must go on meaning what it meant.

Times are seconds since the epoch. NULL is "not yet" or "none".
"""

from __future__ import annotations

APPLICATION_ID = 0x66667274  # "ffrt"
LOGS_APPLICATION_ID = 0x6666726C  # "ffrl"

_FIRST = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    lineage TEXT NOT NULL CHECK (lineage <> ''),
    turn INTEGER NOT NULL DEFAULT 0 CHECK (turn >= 0),
    at_s REAL NOT NULL DEFAULT 0.0,
    next_job INTEGER NOT NULL DEFAULT 1 CHECK (next_job >= 1),
    paused_queues TEXT NOT NULL DEFAULT '',          -- names, blanks between
    clean INTEGER NOT NULL DEFAULT 1 CHECK (clean IN (0, 1)),
    restored TEXT NOT NULL DEFAULT ''                -- the lineage that the next start opens, after a restore
) STRICT;

CREATE TABLE lineages (
    lineage TEXT PRIMARY KEY,
    left_turn INTEGER NOT NULL CHECK (left_turn >= 0),
    at_s REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The narrow columns that lists filter by stand first: SQLite reads a row from its front.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY CHECK (number >= 1),
    state TEXT NOT NULL CHECK (state IN ('queued', 'assigned', 'running', 'paused', 'resuming', 'retrying', 'canceling',
                                         'completed', 'failed', 'timed_out', 'canceled', 'rejected')),
    queue TEXT NOT NULL CHECK (queue IN ('live', 'default', 'batch')),
    priority TEXT NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
    classification TEXT NOT NULL CHECK (classification IN ('production', 'test', 'benchmark', 'debug')),
    node TEXT NOT NULL DEFAULT '',                   -- of the current attempt, or the last one that had a node
    scenario TEXT NOT NULL,
    uuid TEXT NOT NULL UNIQUE,
    arrival_s REAL NOT NULL,
    submitted_s REAL NOT NULL,
    started_s REAL,                                  -- when it first ran
    ended_s REAL,
    due_s REAL,
    attempt INTEGER NOT NULL CHECK (attempt >= 0),
    current INTEGER NOT NULL CHECK (current >= 0),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    lost TEXT NOT NULL,                              -- attempt numbers, blanks between
    max_retries INTEGER NOT NULL CHECK (max_retries >= 0),
    on_disconnect TEXT NOT NULL CHECK (on_disconnect IN ('keep', 'stop')),
    live INTEGER NOT NULL CHECK (live IN (0, 1)),
    verdict TEXT CHECK (verdict IN ('failed', 'timed_out')),
    reason TEXT CHECK (reason IN ('capability_mismatch', 'user_error', 'network_error', 'input_error',
                                  'runtime_error', 'timeout', 'platform_error', 'resource_error')),
    transient INTEGER CHECK (transient IN (0, 1)),
    line TEXT,
    hint TEXT,
    output_key TEXT NOT NULL,
    submitted_by TEXT NOT NULL,
    idempotency TEXT NOT NULL,
    retry_of INTEGER NOT NULL,
    requirements BLOB NOT NULL,                      -- msgpack
    results BLOB,                                    -- msgpack
    spec BLOB NOT NULL,                              -- msgpack
    CHECK ((ended_s IS NOT NULL) = (state IN ('completed', 'failed', 'timed_out', 'canceled', 'rejected')))
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_node ON jobs (node, number) WHERE node <> '';
CREATE INDEX jobs_by_scenario ON jobs (scenario, number);
CREATE INDEX jobs_by_end ON jobs (ended_s) WHERE ended_s IS NOT NULL;
CREATE INDEX jobs_for_sla ON jobs (ended_s, state, queue, submitted_s, started_s, reason)
    WHERE ended_s IS NOT NULL AND classification = 'production';
CREATE UNIQUE INDEX jobs_open_outputs ON jobs (output_key) WHERE ended_s IS NULL AND output_key <> '';

CREATE TABLE counters (
    state TEXT NOT NULL,
    queue TEXT NOT NULL,
    jobs INTEGER NOT NULL CHECK (jobs >= 0),
    PRIMARY KEY (state, queue)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER jobs_counted_in AFTER INSERT ON jobs BEGIN
    INSERT INTO counters (state, queue, jobs) VALUES (new.state, new.queue, 1)
        ON CONFLICT (state, queue) DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER jobs_counted_over AFTER UPDATE OF state, queue ON jobs
    WHEN old.state <> new.state OR old.queue <> new.queue BEGIN
    UPDATE counters SET jobs = jobs - 1 WHERE state = old.state AND queue = old.queue;
    INSERT INTO counters (state, queue, jobs) VALUES (new.state, new.queue, 1)
        ON CONFLICT (state, queue) DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER jobs_counted_out AFTER DELETE ON jobs BEGIN
    UPDATE counters SET jobs = jobs - 1 WHERE state = old.state AND queue = old.queue;
END;

CREATE TABLE attempts (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 1),
    there INTEGER NOT NULL CHECK (there IN (0, 1)),  -- it may still be alive: the farm knows it
    uuid TEXT NOT NULL,
    node TEXT NOT NULL,
    want TEXT NOT NULL CHECK (want IN ('run', 'pause', 'stop', 'discard')),
    live INTEGER NOT NULL CHECK (live IN (0, 1)),
    accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
    doubted INTEGER NOT NULL CHECK (doubted IN (0, 1)),
    paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
    offered_s REAL,
    fence_s REAL,
    started_s REAL,                                  -- when its acceptance was committed
    ended_s REAL,
    how TEXT CHECK (how IN ('published', 'failed', 'stopped', 'completed', 'node_lost', 'absent', 'burnt', 'refused',
                            'given_up')),
    reason TEXT CHECK (reason IN ('capability_mismatch', 'user_error', 'network_error', 'input_error',
                                  'runtime_error', 'timeout', 'platform_error', 'resource_error')),
    transient INTEGER CHECK (transient IN (0, 1)),
    line TEXT,
    hint TEXT,
    size_bytes INTEGER,
    digest TEXT,
    requirements BLOB NOT NULL,
    results BLOB,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_there ON attempts (job, number) WHERE there = 1;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,           -- a number is never used twice, also when the newest rows go
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    at_s REAL NOT NULL,
    turn INTEGER NOT NULL,
    before TEXT CHECK (before IN ('queued', 'assigned', 'running', 'paused', 'resuming', 'retrying', 'canceling',
                                  'completed', 'failed', 'timed_out', 'canceled', 'rejected')),
    after TEXT NOT NULL CHECK (after IN ('queued', 'assigned', 'running', 'paused', 'resuming', 'retrying', 'canceling',
                                         'completed', 'failed', 'timed_out', 'canceled', 'rejected')),
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    node TEXT NOT NULL,
    reason TEXT CHECK (reason IN ('capability_mismatch', 'user_error', 'network_error', 'input_error',
                                  'runtime_error', 'timeout', 'platform_error', 'resource_error')),
    transient INTEGER CHECK (transient IN (0, 1)),
    line TEXT,
    hint TEXT
) STRICT;

CREATE INDEX events_by_job ON events (job, seq);

CREATE TABLE grants (
    job INTEGER PRIMARY KEY REFERENCES jobs (number) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    request INTEGER NOT NULL,
    size_bytes INTEGER,
    digest TEXT,
    until_s REAL NOT NULL,
    settling TEXT NOT NULL,
    CHECK ((size_bytes IS NULL) = (digest IS NULL))
) STRICT;

CREATE TABLE nodes (
    name TEXT PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    capacity BLOB NOT NULL,
    labels TEXT NOT NULL,                            -- JSON
    drained INTEGER NOT NULL CHECK (drained IN (0, 1)),
    incarnation INTEGER NOT NULL,
    accept_lower INTEGER NOT NULL CHECK (accept_lower IN (0, 1)),
    info BLOB,                                       -- msgpack, as the agent told it
    info_at_s REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE tickets (
    public_key TEXT PRIMARY KEY,
    expires_s REAL NOT NULL,
    name TEXT NOT NULL,
    replaces TEXT NOT NULL,
    used_for TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    answer BLOB NOT NULL,
    at_s REAL NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (at_s);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s REAL NOT NULL,
    turn INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)

_FIRST_LOGS = """
-- size: the end of the log as far as it was heard; what lies between head and tail of max_bytes is cut.
CREATE TABLE logs (
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    max_bytes INTEGER NOT NULL CHECK (max_bytes >= 2),
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

-- Chunks of one attempt never overlap. The index tells where bytes are without touching them.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    offset INTEGER NOT NULL CHECK (offset >= 0),
    length INTEGER NOT NULL CHECK (length > 0),
    data BLOB NOT NULL CHECK (length(data) = length)
) STRICT;

CREATE UNIQUE INDEX chunks_in_order ON chunks (job, attempt, offset, length);
"""

LOGS_MIGRATIONS: tuple[str, ...] = (_FIRST_LOGS,)
