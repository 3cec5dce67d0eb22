-- view: ops.incident_status
-- question: What went wrong, from when until when, and how was it closed?
-- reads: ops.incidents
-- columns:
--   id           varchar, of the incident; ops.incidents has a row for each of its events
--   kind         varchar: slot_gone, slot_lost, counts_short, service, table and others
--   name         varchar, which one of its kind
--   state        varchar: open or closed
--   opened_at    timestamp with time zone
--   closed_at    timestamp with time zone; NULL while it is open
--   tables       array(varchar), of the source; empty where it concerns none, or all
--   lsn_from     bigint, WAL position in bytes from which something is or was missing; or NULL
--   lsn_to       bigint, up to which; or NULL
--   cause        varchar
--   how_closed   varchar; NULL while it is open
SELECT
  id,
  max(kind) AS kind,
  max(name) AS name,
  max_by(state, at) AS state,
  min(opened_at) AS opened_at,
  CASE WHEN max_by(state, at) = 'closed' THEN max(at) END AS closed_at,
  max_by(tables, at) AS tables,
  max_by(lsn_from, at) AS lsn_from,
  max_by(lsn_to, at) AS lsn_to,
  max_by(cause, at) AS cause,
  max_by(how_closed, at) AS how_closed
FROM ops.incidents
GROUP BY id
