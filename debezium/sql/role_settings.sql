-- Types without a form of their own travel as text; these settings fix how the server prints them,
-- whatever the database's own defaults are.
ALTER ROLE {role} SET timezone = 'UTC';
ALTER ROLE {role} SET datestyle = 'ISO, YMD';
ALTER ROLE {role} SET intervalstyle = 'postgres';
ALTER ROLE {role} SET bytea_output = 'hex';
ALTER ROLE {role} SET lc_monetary = 'C';
ALTER ROLE {role} SET extra_float_digits = 1;
-- A long snapshot, or an idle replication connection, is no mistake of the session.
ALTER ROLE {role} SET statement_timeout = 0;
ALTER ROLE {role} SET idle_in_transaction_session_timeout = 0;
