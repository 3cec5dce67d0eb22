-- Where the provider keeps the REPLICATION attribute to itself and lends it by a role.
CREATE ROLE {role} LOGIN PASSWORD {password};
GRANT rds_replication TO {role};
-- By this `headwater detach` knows that the role was made for Headwater.
COMMENT ON ROLE {role} IS 'made for Headwater';
