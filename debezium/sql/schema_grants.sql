GRANT USAGE ON SCHEMA headwater TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON headwater.heartbeat, headwater.signal TO {role};
