-- Records each table's definition after each change, in the transaction of the change: silver then
-- knows every version that an event can have, and where each begins.
CREATE TABLE IF NOT EXISTS headwater.definitions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    oid oid NOT NULL,
    lsn bigint NOT NULL,  -- the log's end: the table is locked, so no row's change of it is between
    xid bigint NOT NULL,
    identity text NOT NULL,
    columns jsonb NOT NULL,
    key jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS definitions_of_table
    ON headwater.definitions (schema_name, table_name, lsn, id);
-- It runs with its owner's rights in any session that changes a table: so pg_temp comes last, and
-- nothing of another schema is used by its bare name. A failure here must not fail the change
-- itself.
CREATE OR REPLACE FUNCTION headwater.note_definition() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER {forms}
AS $body$
#variable_conflict use_column
DECLARE
    reached bigint := pg_current_wal_insert_lsn() - '0/0'::pg_lsn;
    newest bigint;
    changed record;
BEGIN
    FOR changed IN
        SELECT DISTINCT c.oid AS table_oid, n.nspname AS in_schema, c.relname AS named,
               c.relreplident::text AS identity_of
        FROM pg_event_trigger_ddl_commands() d
        JOIN pg_class c ON c.oid = d.objid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p')
          AND c.relpersistence = 'p' AND NOT c.relispartition
          AND n.nspname NOT IN ('headwater', 'information_schema') AND n.nspname !~ '^pg_'
    LOOP
        INSERT INTO headwater.definitions
            (schema_name, table_name, oid, lsn, xid, identity, columns, key)
        SELECT changed.in_schema, changed.named, changed.table_oid, reached,
               txid_current() & 4294967295, changed.identity_of,
               (SELECT coalesce(jsonb_agg(to_jsonb(described)), '[]') FROM (
                    {described_columns}
               ) described),
               (SELECT coalesce(jsonb_agg(part.attname), '[]') FROM (
                    {described_key}
               ) part)
        RETURNING id INTO newest;
    END LOOP;
    -- A few at a time, and none that another session has locked, so that nobody waits for this.
    DELETE FROM headwater.definitions WHERE id IN (
        SELECT id FROM headwater.definitions WHERE id <= newest - 10000
        ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'headwater could not note this definition: %', SQLERRM;
END
$body$;
COMMENT ON FUNCTION headwater.note_definition() IS {digest};
DROP EVENT TRIGGER IF EXISTS headwater_definitions;
CREATE EVENT TRIGGER headwater_definitions ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    EXECUTE FUNCTION headwater.note_definition();
-- It fires also if a session replays replicated changes.
ALTER EVENT TRIGGER headwater_definitions ENABLE ALWAYS;
GRANT USAGE ON SCHEMA headwater TO {role};
GRANT SELECT ON headwater.definitions TO {role};
