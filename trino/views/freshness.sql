-- view: ops.freshness
-- question: How fresh is each table of silver?
-- reads: ops.ledger
-- columns:
--   table_name          varchar, as in schema silver
--   complete_lsn        bigint, WAL position in bytes that the table is complete to; NULL where
--                       the table is not kept, or its first batch is still on its way
--   complete_pg_lsn     varchar, the same in Postgres' form, such as 0/16B3748
--   source_time         timestamp with time zone, commit time of the newest change known by then
--   seconds_behind      double, now less source_time: no more than this is missing (in a source
--                       at rest it grows although nothing is missing)
--   last_merged_at      timestamp with time zone, when a batch last had changes of the table
--   last_delta_version  bigint, the Delta version of its last commit
--   refusal             varchar, why the table is not kept; NULL where it is
WITH per_table AS (
  SELECT
    table_name,
    -- The newest row tells, not the highest LSN: a source restored from a backup starts lower.
    max_by(complete_lsn, merged_at) FILTER (WHERE complete_lsn IS NOT NULL) AS complete_lsn,
    max_by(source_time, merged_at) FILTER (WHERE source_time IS NOT NULL) AS source_time,
    max(merged_at) AS last_merged_at,
    max_by(delta_version, merged_at) FILTER (WHERE delta_version IS NOT NULL)
      AS last_delta_version,
    max_by(refusal, merged_at) AS refusal
  FROM ops.ledger
  GROUP BY table_name
)
SELECT
  table_name,
  complete_lsn,
  upper(to_base(complete_lsn / 4294967296, 16)) || '/'
    || upper(to_base(complete_lsn % 4294967296, 16)) AS complete_pg_lsn,
  source_time,
  date_diff('millisecond', source_time, current_timestamp) / 1e3 AS seconds_behind,
  last_merged_at,
  last_delta_version,
  refusal
FROM (
  SELECT
    touched.table_name,
    -- A batch that did not touch a table says for it, too, how far the source was read (its row
    -- without a table name): a change of that table would have been in the batch.
    CASE
      WHEN touched.refusal IS NOT NULL THEN NULL
      WHEN batch.last_merged_at >= touched.last_merged_at THEN batch.complete_lsn
      ELSE touched.complete_lsn
    END AS complete_lsn,
    CASE
      WHEN touched.refusal IS NOT NULL THEN NULL
      WHEN batch.last_merged_at >= touched.last_merged_at THEN batch.source_time
      ELSE touched.source_time
    END AS source_time,
    touched.last_merged_at,
    touched.last_delta_version,
    touched.refusal
  FROM per_table AS touched
  LEFT JOIN per_table AS batch ON batch.table_name = ''
  WHERE touched.table_name <> ''
)
