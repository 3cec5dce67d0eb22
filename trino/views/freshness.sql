-- view: ops.freshness
-- question: How fresh is each table of silver, and is it kept?
-- reads: ops.ledger
-- columns:
--   table_name          varchar, as in schema silver
--   state               varchar: running; stopped (its merge failed, or a rule of its contract
--                       stopped it: the others go on, it is tried again), resuming (it catches
--                       up, or is being rebuilt), failing (its batch failed and is repeated),
--                       refused (cannot be kept)
--   complete_lsn        bigint, WAL position in bytes that the table is complete to; NULL where
--                       the table is not kept, or nothing of it has come yet (it may be empty in
--                       the source, too); of a
--                       table that is stopped, resuming or failing it stays where it was, and
--                       is NULL where a rebuilt table has not caught up yet
--   complete_pg_lsn     varchar, the same in Postgres' form, such as 0/16B3748
--   source_time         timestamp with time zone, commit time of the newest change known by then
--   seconds_behind      double, now less source_time: no more than this is missing (in a source
--                       at rest it is the time since its last heartbeat)
--   last_merged_at      timestamp with time zone, when a batch last had changes of the table
--   last_delta_version  bigint, the Delta version of its last commit
--   reason              varchar, why the table does not run; NULL where it does
--   stopped_at          timestamp with time zone, since when it has been stopped; else NULL
--   tries               bigint, failures in a row since then; else 0
--   resumes_from        varchar, JSON: topic -> partition -> the offset from which it goes on;
--                       NULL where it runs
--   refusal             varchar, why the table cannot be kept; NULL if it can
--   freshness_target_seconds  double, as the table's contract file sets it; NULL without one
--   freshness_met       boolean, it runs, and whatever was committed longer ago than the target is
--                       there, as far as heartbeats (one in 5 seconds) can tell: seconds_behind
--                       is at most 5 more than the target; NULL without a target, or an event
WITH per_table AS (
  SELECT
    table_name,
    -- The newest row counts, not the highest LSN, because a source restored from a backup starts lower.
    max_by(complete_lsn, merged_at) FILTER (WHERE complete_lsn IS NOT NULL) AS complete_lsn,
    max_by(source_time, merged_at) FILTER (WHERE source_time IS NOT NULL) AS source_time,
    max(merged_at) AS last_merged_at,
    max_by(delta_version, merged_at) FILTER (WHERE delta_version IS NOT NULL)
      AS last_delta_version,
    max_by(refusal, merged_at) AS refusal,
    max_by(coalesce(state, 'running'), merged_at) AS state,
    max_by(reason, merged_at) AS reason,
    max_by(stopped_at, merged_at) AS stopped_at,
    max_by(coalesce(tries, 0), merged_at) AS tries,
    max_by(offsets, merged_at) AS offsets,
    -- Exactly the newest row's values, even if they are NULL for a table that does not run.
    max_by(complete_lsn, merged_at) AS own_lsn,
    max_by(source_time, merged_at) AS own_time
  FROM ops.ledger
  WHERE table_name <> ''
  GROUP BY table_name
),
per_job AS (
  SELECT
    coalesce(share, '1') AS share,
    coalesce(job, 1) AS job,
    max_by(complete_lsn, merged_at) FILTER (WHERE complete_lsn IS NOT NULL) AS complete_lsn,
    max_by(source_time, merged_at) FILTER (WHERE source_time IS NOT NULL) AS source_time,
    max(merged_at) AS last_merged_at,
    max_by(freshness_targets, merged_at) AS freshness_targets
  FROM ops.ledger
  WHERE table_name = ''
  GROUP BY 1, 2
),
-- The slowest of several silver jobs decides up to where all tables are complete. The split of the
-- tables among them that is in the newest row counts; its name begins with the number of jobs.
batch AS (
  SELECT
    CASE WHEN count(complete_lsn) = max(jobs) THEN min(complete_lsn) END AS complete_lsn,
    CASE WHEN count(source_time) = max(jobs) THEN min(source_time) END AS source_time,
    min(last_merged_at) AS last_merged_at,
    max_by(freshness_targets, last_merged_at) AS freshness_targets
  FROM (SELECT *, CAST(split_part(share, '-', 1) AS bigint) AS jobs FROM per_job)
  WHERE share = (SELECT max_by(share, last_merged_at) FROM per_job)
)
SELECT
  table_name,
  state,
  complete_lsn,
  upper(to_base(complete_lsn / 4294967296, 16)) || '/'
    || upper(to_base(complete_lsn % 4294967296, 16)) AS complete_pg_lsn,
  source_time,
  date_diff('millisecond', source_time, current_timestamp) / 1e3 AS seconds_behind,
  last_merged_at,
  last_delta_version,
  reason,
  stopped_at,
  tries,
  resumes_from,
  refusal,
  freshness_target_seconds,
  CASE WHEN freshness_target_seconds IS NOT NULL AND NOT (state = 'running' AND no_event) THEN state = 'running' AND coalesce(
    date_diff('millisecond', source_time, current_timestamp) / 1e3 <= freshness_target_seconds + 5,
    false) END AS freshness_met
FROM (
  SELECT
    touched.table_name,
    CASE WHEN touched.refusal IS NOT NULL AND touched.state = 'running' THEN 'refused'
      ELSE touched.state END AS state,
    -- A batch that did not touch a table says for it, too, how far the source was read (its row
    -- without a table name): a change of that table would have been in the batch. A table whose changes are left out
    -- keeps its own value.
    CASE
      WHEN touched.refusal IS NOT NULL THEN NULL
      WHEN touched.state IN ('stopped', 'resuming', 'failing') THEN touched.own_lsn
      WHEN touched.offsets = '{}' THEN NULL  -- made from the catalog: it has had no event
      WHEN batch.last_merged_at >= touched.last_merged_at THEN batch.complete_lsn
      ELSE touched.complete_lsn
    END AS complete_lsn,
    CASE
      WHEN touched.refusal IS NOT NULL THEN NULL
      WHEN touched.state IN ('stopped', 'resuming', 'failing') THEN touched.own_time
      WHEN touched.offsets = '{}' THEN NULL
      WHEN batch.last_merged_at >= touched.last_merged_at THEN batch.source_time
      ELSE touched.source_time
    END AS source_time,
    coalesce(touched.offsets = '{}', false) AS no_event,
    touched.last_merged_at,
    touched.last_delta_version,
    coalesce(touched.reason, touched.refusal) AS reason,
    touched.stopped_at,
    touched.tries,
    CASE WHEN touched.state IN ('stopped', 'resuming', 'failing')
      THEN touched.offsets END AS resumes_from,
    touched.refusal,
    element_at(
      TRY(CAST(json_parse(batch.freshness_targets) AS map(varchar, double))), touched.table_name
    ) AS freshness_target_seconds
  FROM per_table AS touched
  CROSS JOIN batch
)
