-- view: ops.columns
-- question: Which columns are there, of which type, what does each mean, and how is it classified?
-- reads: ops.meaning
-- columns:
--   table_schema    varchar: silver, ops or reports
--   table_name      varchar
--   column_name     varchar
--   position        integer, 1 is the table's first column
--   type            varchar, as Trino has it
--   description     varchar, by the contract file, else the source's COMMENT ON; NULL without one
--   classification  varchar: public, internal, personal or sensitive; NULL: not classified
--   is_key          boolean, it is one of the columns that identify a row
--   owner           varchar, of the table; NULL without one
--   domain          varchar, of the table; NULL without one
--   tags            array(varchar), of the table
SELECT
  table_schema,
  table_name,
  column_name,
  position,
  type,
  description,
  classification,
  coalesce(contains(transform(key, name -> lower(name)), column_name), false) AS is_key,
  owner,
  domain,
  tags
FROM ops.meaning
WHERE column_name IS NOT NULL
