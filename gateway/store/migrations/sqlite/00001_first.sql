-- +goose Up
CREATE TABLE users (
    username  TEXT PRIMARY KEY, -- folded: lower case, NFC
    extension TEXT UNIQUE,
    rev       BIGINT NOT NULL,
    doc       TEXT NOT NULL
);

CREATE TABLE password_history (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL,
    hash     TEXT NOT NULL,
    at       BIGINT NOT NULL
);
CREATE INDEX password_history_username ON password_history (username, id);

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    username     TEXT NOT NULL,
    token_hash   TEXT NOT NULL UNIQUE, -- hexadecimal
    sip_user     TEXT UNIQUE,
    turn_user    TEXT UNIQUE,
    expires_at   BIGINT NOT NULL, -- this and every other time: microseconds since 1970, UTC
    last_seen_at BIGINT NOT NULL,
    doc          TEXT NOT NULL
);
CREATE INDEX sessions_username ON sessions (username);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE api_tokens (
    id         TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    expires_at BIGINT, -- NULL = never
    doc        TEXT NOT NULL
);

CREATE TABLE campaigns (
    name TEXT PRIMARY KEY,
    rev  BIGINT NOT NULL,
    doc  TEXT NOT NULL
);

CREATE TABLE campaign_dispositions (
    campaign TEXT NOT NULL,
    l1       TEXT NOT NULL,
    l2       TEXT NOT NULL,
    l3       TEXT NOT NULL,
    action   TEXT NOT NULL,
    place    BIGINT NOT NULL,
    PRIMARY KEY (campaign, l1, l2, l3)
);

CREATE TABLE trunks (
    name TEXT PRIMARY KEY,
    rev  BIGINT NOT NULL,
    doc  TEXT NOT NULL
);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- What follows is written by the reader of the facts alone.

CREATE TABLE checkpoint (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL
);
INSERT INTO checkpoint (id, seq) VALUES (1, 0);

CREATE TABLE open_items (
    kind TEXT NOT NULL,
    item TEXT NOT NULL,
    doc  TEXT NOT NULL,
    PRIMARY KEY (kind, item)
);

CREATE TABLE queue_log (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    seq       BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    origid    TEXT NOT NULL,
    datetime  TEXT NOT NULL, -- in the gateway's time zone
    callid    TEXT NOT NULL,
    queuename TEXT NOT NULL,
    agent     TEXT NOT NULL,
    event     TEXT NOT NULL,
    data1     TEXT NOT NULL,
    data2     TEXT NOT NULL,
    data3     TEXT NOT NULL,
    data4     TEXT NOT NULL,
    data5     TEXT NOT NULL,
    number    TEXT NOT NULL,
    wait_s    BIGINT NOT NULL,
    talk_s    BIGINT NOT NULL,
    ring_ms   BIGINT NOT NULL
);
CREATE INDEX queue_log_at ON queue_log (at);
CREATE INDEX queue_log_callid ON queue_log (callid);
CREATE INDEX queue_log_queuename ON queue_log (queuename, at);
CREATE INDEX queue_log_agent ON queue_log (agent, at);

CREATE VIEW queue_log_repo AS
SELECT origid, datetime, callid, queuename, event, data1, data2, data3, data4, data5, agent
FROM queue_log;

CREATE TABLE cdr (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    seq             BIGINT NOT NULL,
    legid           TEXT NOT NULL,
    direction       TEXT NOT NULL,
    ended_by        TEXT NOT NULL,
    agent           TEXT NOT NULL,
    trunk           TEXT NOT NULL,
    started_at      BIGINT NOT NULL,
    answered_at     BIGINT,
    ended_at        BIGINT NOT NULL,
    calldate        TEXT NOT NULL, -- in the gateway's time zone
    clid            TEXT NOT NULL,
    src             TEXT NOT NULL,
    dst             TEXT NOT NULL,
    dcontext        TEXT NOT NULL,
    channel         TEXT NOT NULL,
    dstchannel      TEXT NOT NULL,
    lastapp         TEXT NOT NULL,
    duration        BIGINT NOT NULL,
    billsec         BIGINT NOT NULL,
    disposition     TEXT NOT NULL,
    amaflags        BIGINT NOT NULL DEFAULT 0,
    accountcode     TEXT NOT NULL,
    userfield       TEXT NOT NULL DEFAULT '',
    type            TEXT NOT NULL,
    guid            TEXT NOT NULL,
    causecode       TEXT NOT NULL,
    campaign        TEXT NOT NULL,
    charged_balance REAL,
    real_balance    REAL,
    note            TEXT NOT NULL DEFAULT '',
    contact         TEXT NOT NULL DEFAULT '',
    finishtime      TEXT,
    rating          REAL,
    dialerbase      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX cdr_started_at ON cdr (started_at);
CREATE INDEX cdr_guid ON cdr (guid);
CREATE INDEX cdr_campaign ON cdr (campaign, started_at);
CREATE INDEX cdr_agent ON cdr (agent, started_at);
CREATE INDEX cdr_src ON cdr (src, started_at);
CREATE INDEX cdr_dst ON cdr (dst, started_at);

CREATE VIEW cdr_repo AS
SELECT calldate, clid, src, dst, dcontext, channel, dstchannel, lastapp, duration, billsec,
       disposition, amaflags, accountcode, userfield, guid AS uniqueid, type, guid, causecode,
       campaign, charged_balance, real_balance, note, contact, finishtime, rating, dialerbase
FROM cdr;

CREATE TABLE call_quality (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    seq           BIGINT NOT NULL,
    at            BIGINT NOT NULL,
    datetime      TEXT NOT NULL,
    guid          TEXT NOT NULL,
    legid         TEXT NOT NULL,
    side          TEXT NOT NULL,
    codec         TEXT NOT NULL,
    packets_in    BIGINT NOT NULL,
    packets_out   BIGINT NOT NULL,
    lost_in       BIGINT NOT NULL,
    loss_in_pct   REAL NOT NULL,
    loss_out_pct  REAL NOT NULL,
    jitter_in_ms  REAL NOT NULL,
    jitter_out_ms REAL NOT NULL,
    rtt_ms        REAL NOT NULL,
    mos           REAL NOT NULL
);
CREATE INDEX call_quality_at ON call_quality (at);
CREATE INDEX call_quality_guid ON call_quality (guid);

CREATE TABLE recordings (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    seq         BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    datetime    TEXT NOT NULL,
    guid        TEXT NOT NULL,
    campaign    TEXT NOT NULL,
    agent       TEXT NOT NULL,
    number      TEXT NOT NULL,
    path        TEXT NOT NULL UNIQUE,
    finished_at BIGINT,
    duration_ms BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    sha256      TEXT NOT NULL,
    lost_ms     BIGINT NOT NULL
);
CREATE INDEX recordings_at ON recordings (at);
CREATE INDEX recordings_guid ON recordings (guid);

CREATE TABLE dispositions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    seq      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    datetime TEXT NOT NULL,
    guid     TEXT NOT NULL,
    campaign TEXT NOT NULL,
    agent    TEXT NOT NULL,
    callerid TEXT NOT NULL,
    l1       TEXT NOT NULL,
    l2       TEXT NOT NULL,
    l3       TEXT NOT NULL,
    comment  TEXT NOT NULL,
    tag      TEXT NOT NULL,
    schedule TEXT NOT NULL
);
CREATE INDEX dispositions_at ON dispositions (at);
CREATE INDEX dispositions_guid ON dispositions (guid);

CREATE TABLE recording_tags (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    seq      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    datetime TEXT NOT NULL,
    username TEXT NOT NULL,
    guid     TEXT NOT NULL,
    second   BIGINT NOT NULL,
    comment  TEXT NOT NULL
);
CREATE INDEX recording_tags_at ON recording_tags (at);
CREATE INDEX recording_tags_guid ON recording_tags (guid);

CREATE VIEW tags AS
SELECT id, datetime, username AS "user", guid, second AS "time", comment
FROM recording_tags;

CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    seq      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    datetime TEXT NOT NULL,
    username TEXT NOT NULL,
    host     TEXT NOT NULL,
    action   TEXT NOT NULL,
    object   TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_username ON audit (username, at);

CREATE VIEW auditory AS
SELECT id, datetime, username AS userid, host, action
FROM audit;

CREATE TABLE poisoned_facts (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    seq     BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    fact_id TEXT NOT NULL,
    kind    TEXT NOT NULL,
    data    TEXT NOT NULL,
    error   TEXT NOT NULL
);

-- +goose Down
DROP TABLE poisoned_facts;
DROP VIEW auditory;
DROP TABLE audit;
DROP VIEW tags;
DROP TABLE recording_tags;
DROP TABLE dispositions;
DROP TABLE recordings;
DROP TABLE call_quality;
DROP VIEW cdr_repo;
DROP TABLE cdr;
DROP VIEW queue_log_repo;
DROP TABLE queue_log;
DROP TABLE open_items;
DROP TABLE checkpoint;
DROP TABLE settings;
DROP TABLE trunks;
DROP TABLE campaign_dispositions;
DROP TABLE campaigns;
DROP TABLE api_tokens;
DROP TABLE sessions;
DROP TABLE password_history;
DROP TABLE users;
