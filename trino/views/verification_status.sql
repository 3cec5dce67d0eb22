-- view: ops.verification_status
-- question: What did the last verification of each table find, and how long ago?
-- reads: ops.verification
-- columns:
--   table_name        varchar, as in schema silver
--   verdict           varchar: equal, explained (equal but for rows in quarantine), differs,
--                     stopped or refused
--   rows              bigint, rows of the source that were compared
--   wrong_rows        bigint, rows missing in silver, extra in it, or with other values
--   differences       varchar, the first of them by key and column, one a line
--   source_pg_lsn     varchar, the source's log position at which they were compared
--   verified_at       timestamp with time zone, when the verdict was reached
--   minutes_ago       double, since then
--   last_equal_at     timestamp with time zone, when the table was last found equal; NULL if never
SELECT
  table_name,
  max_by(verdict, verified_at) AS verdict,
  max_by(rows, verified_at) AS rows,
  max_by(missing + extra + differing, verified_at) AS wrong_rows,
  max_by(differences, verified_at) AS differences,
  max_by(source_pg_lsn, verified_at) AS source_pg_lsn,
  max(verified_at) AS verified_at,
  date_diff('second', max(verified_at), current_timestamp) / 6e1 AS minutes_ago,
  max(verified_at) FILTER (WHERE verdict = 'equal') AS last_equal_at
FROM ops.verification
GROUP BY table_name
