-- Tables by name, never FOR ALL TABLES: a table without a key would then refuse the application's
-- own UPDATE and DELETE. A partitioned table is published as one, under its own name.
CREATE PUBLICATION {publication} FOR TABLE {heartbeat}, {signal}
    WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
