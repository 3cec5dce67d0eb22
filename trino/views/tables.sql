-- view: ops.tables
-- question: Which tables and views are there, what does each mean, and how fresh, large and right is it?
-- reads: ops.meaning, ops.freshness, ops.verification_status
-- columns:
--   table_schema      varchar: silver, ops or reports
--   table_name        varchar
--   kind              varchar: table or view
--   description       varchar, by the contract file, else the source's COMMENT ON; a view's question
--   owner             varchar; NULL without one
--   domain            varchar; NULL without one
--   tags              array(varchar)
--   classification    varchar, the strictest of its columns; NULL where none is classified
--   key               array(varchar), the columns that identify a row; NULL of a view
--   contract_version  bigint, the version of the contract that silver follows; NULL beyond silver
--   rows              bigint, by the table's log, at most some minutes old; NULL of a view
--   bytes             bigint, of the newest version's files, as old
--   old_bytes         bigint, of files that only older versions need; NULL before the first clean-up
--   log_bytes         bigint, of the table's log
--   oldest_version    bigint, the oldest that can be read; ops.versions lists them
--   oldest_version_at timestamp with time zone, when it was committed
--   limited_at        timestamp with time zone, when max_mb last removed a version that the days
--                     would keep; NULL if it does not
--   state             varchar, as in ops.freshness; NULL beyond silver
--   seconds_behind    double, no more than this is missing; NULL beyond silver
--   freshness_met     boolean, the target of the contract file is met; NULL without one
--   verdict           varchar, of the last continuous verification; NULL if there was none
--   verified_at       timestamp with time zone, when that was reached
SELECT
  meaning.table_schema,
  meaning.table_name,
  meaning.kind,
  meaning.description,
  meaning.owner,
  meaning.domain,
  meaning.tags,
  classes.classification,
  meaning.key,
  meaning.contract_version,
  meaning."rows",
  meaning.bytes,
  meaning.old_bytes,
  meaning.log_bytes,
  element_at(meaning.versions, 1) AS oldest_version,
  element_at(meaning.versions_at, 1) AS oldest_version_at,
  meaning.limited_at,
  freshness.state,
  freshness.seconds_behind,
  freshness.freshness_met,
  verified.verdict,
  verified.verified_at
FROM ops.meaning AS meaning
LEFT JOIN (
  SELECT
    table_schema,
    table_name,
    max_by(
      classification,
      array_position(ARRAY['public', 'internal', 'personal', 'sensitive'], classification)
    ) AS classification
  FROM ops.meaning
  WHERE classification IS NOT NULL
  GROUP BY table_schema, table_name
) AS classes
  ON classes.table_schema = meaning.table_schema AND classes.table_name = meaning.table_name
LEFT JOIN ops.freshness AS freshness
  ON meaning.table_schema = 'silver' AND lower(freshness.table_name) = meaning.table_name
LEFT JOIN ops.verification_status AS verified
  ON meaning.table_schema = 'silver' AND lower(verified.table_name) = meaning.table_name
WHERE meaning.column_name IS NULL
