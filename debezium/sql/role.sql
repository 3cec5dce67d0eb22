-- The role that captures: it may log in, replicate, and read what is granted to it. Not a superuser.
CREATE ROLE {role} LOGIN REPLICATION PASSWORD {password};
