GRANT USAGE ON SCHEMA headwater TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {heartbeat}, {signal} TO {role};
