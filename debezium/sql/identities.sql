-- The replica identities that `--apply` set, and what they were before: `headwater detach` restores
-- them from here.
CREATE TABLE IF NOT EXISTS headwater.replica_identities (
    oid oid PRIMARY KEY,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    was text NOT NULL,  -- as in pg_class.relreplident: d, n, f or i
    was_index text,  -- the index, where it was by one
    set_to text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);
