-- Where the provider keeps the REPLICATION attribute to itself and lends it by a role.
CREATE ROLE {role} LOGIN PASSWORD {password};
GRANT rds_replication TO {role};
