-- In one transaction with the change itself. If somebody set another identity after an earlier
-- change of ours, the table goes back to that identity.
INSERT INTO headwater.replica_identities AS known
    (oid, schema_name, table_name, was, was_index, set_to)
SELECT c.oid, n.nspname, c.relname, c.relreplident,
       (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisreplident), {identity_letter}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = {table_text}::regclass
ON CONFLICT (oid) DO UPDATE SET
    schema_name = excluded.schema_name, table_name = excluded.table_name,
    was = CASE WHEN known.set_to = excluded.was THEN known.was ELSE excluded.was END,
    was_index = CASE WHEN known.set_to = excluded.was THEN known.was_index
                     ELSE excluded.was_index END,
    set_to = excluded.set_to, set_at = now();
ALTER TABLE {table} REPLICA IDENTITY {identity};
