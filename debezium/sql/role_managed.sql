-- For providers that do not give the REPLICATION attribute, but grant it through a role.
CREATE ROLE {role} LOGIN PASSWORD {password};
GRANT rds_replication TO {role};
-- This comment shows `headwater detach` that the role was made for Headwater.
COMMENT ON ROLE {role} IS 'made for Headwater';
