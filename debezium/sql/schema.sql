-- The pipeline's own schema in the source: two small tables that the capture role may write.
CREATE SCHEMA IF NOT EXISTS headwater;
-- One row, updated every few seconds: it advances the replication slot even while the captured
-- tables are idle, so that they never hold back the source's WAL.
CREATE TABLE IF NOT EXISTS {heartbeat} (
    id smallint PRIMARY KEY CHECK (id = 1),
    beat bigint NOT NULL,
    beaten_at timestamptz NOT NULL
);
-- Debezium's signals: one row asks for the snapshot of a table.
CREATE TABLE IF NOT EXISTS {signal} (
    id varchar(64) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data text
);
