-- view: ops.versions
-- question: Which old versions of a table can be read with FOR VERSION AS OF, beside those of the last minutes?
-- reads: ops.meaning
-- columns:
--   table_schema  varchar: silver, history, ops or another
--   table_name    varchar
--   version       bigint, for FOR VERSION AS OF, versionAsOf and other readers
--   committed_at  timestamp with time zone, when the table became so; it stayed so until the next one, or changed
--                 between them in versions that are not kept
SELECT
  meaning.table_schema,
  meaning.table_name,
  kept.version,
  kept.committed_at
FROM ops.meaning AS meaning
CROSS JOIN UNNEST(meaning.versions, meaning.versions_at) AS kept (version, committed_at)
WHERE meaning.column_name IS NULL
