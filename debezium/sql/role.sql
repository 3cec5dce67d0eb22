-- The role that captures: it may log in, replicate, and read what is granted to it. Not a
-- superuser.
CREATE ROLE {role} LOGIN REPLICATION PASSWORD {password};
-- This comment shows `headwater detach` that the role was made for Headwater.
COMMENT ON ROLE {role} IS 'made for Headwater';
