-- name: find_relations :many
SELECT relname, CASE relkind WHEN 'r' THEN 'table' ELSE relkind::text END FROM pg_catalog.pg_class
WHERE relnamespace = to_regnamespace('{schema}') AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')

-- name: find_indexes :many
SELECT ours.relname, indexed.relname FROM pg_catalog.pg_index
JOIN pg_catalog.pg_class AS ours ON ours.oid = indexrelid
JOIN pg_catalog.pg_class AS indexed ON indexed.oid = indrelid
WHERE ours.relnamespace = to_regnamespace('{schema}')

-- name: get_migrations :many
SELECT version, name, checksum FROM {schema}.pandora_migrations ORDER BY version

-- name: create_ledger :script
DO $$ BEGIN
    IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
END $$;
CREATE TABLE {schema}.pandora_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)

-- name: record_migration :none
INSERT INTO {schema}.pandora_migrations (version, name, checksum)
VALUES (:version::integer, :name::text, :checksum::text)

-- The table that libpndb makes (seed: libpndb): what may be adopted in place.
-- name: adoptable_columns :many
SELECT * FROM (VALUES
    ('job_id', 'bigint'), ('author', 'text'), ('requested_at', 'bigint'), ('job_type', 'smallint'),
    ('preset', 'smallint'), ('preset_concat', 'smallint'), ('link', 'text'), ('directory', 'text'),
    ('ready', 'smallint'), ('message_id', 'bigint'), ('channel_id', 'bigint'),
    ('created_at', 'timestamp without time zone'), ('completed_at', 'timestamp without time zone'),
    ('archived', 'boolean')
) AS libpndb (name, type)

-- name: get_columns :many
SELECT attname, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass('{schema}.' || quote_ident(:table::text)) AND attnum > 0 AND NOT attisdropped

-- name: get_primary_key :many
SELECT attribute.attname FROM pg_catalog.pg_index AS key
JOIN pg_catalog.pg_attribute AS attribute
  ON attribute.attrelid = key.indrelid AND attribute.attnum = ANY(key.indkey)
WHERE key.indrelid = to_regclass('{schema}.' || quote_ident(:table::text)) AND key.indisprimary

-- name: estimate_rows :one
SELECT coalesce(max(CASE WHEN reltuples >= 0 THEN reltuples
                         ELSE pg_relation_size(oid) / 150 END), 0)::bigint
FROM pg_catalog.pg_class WHERE oid = to_regclass('{schema}.jobs')

-- Definitions without the schema's name, so that every schema is described alike. How libpndb
-- constrained its own columns is its affair, so only their types are listed.
-- name: describe_schema :many
WITH ours AS (
    SELECT oid, relname, relkind FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace('{schema}')
), described AS (
    SELECT 'column' AS kind, ours.relname || '.' || attname AS name,
           format_type(atttypid, atttypmod) || CASE WHEN attnotnull AND NOT (ours.relname = 'jobs' AND attnum <= 14)
                                                    THEN ' NOT NULL' ELSE '' END AS definition
    FROM ours JOIN pg_catalog.pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
    WHERE relkind = 'r'
    UNION ALL
    SELECT 'index', ours.relname, pg_get_indexdef(ours.oid)
    FROM ours JOIN pg_catalog.pg_index ON indexrelid = ours.oid WHERE NOT indisprimary
    UNION ALL
    SELECT CASE contype WHEN 'c' THEN 'check' WHEN 'p' THEN 'primary key' ELSE 'constraint' END,
           ours.relname || CASE contype WHEN 'p' THEN '' ELSE '.' || conname END, pg_get_constraintdef(pg_constraint.oid)
    FROM ours JOIN pg_catalog.pg_constraint ON conrelid = ours.oid WHERE contype IN ('c', 'p', 'u', 'f')
    UNION ALL
    SELECT 'trigger', ours.relname || '.' || tgname,
           pg_get_triggerdef(pg_trigger.oid) || CASE tgenabled WHEN 'D' THEN ' DISABLED' ELSE '' END
    FROM ours JOIN pg_catalog.pg_trigger ON tgrelid = ours.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', proname, md5(replace(prosrc, '{schema}.', '')) || CASE WHEN prosecdef THEN ' SECURITY DEFINER' ELSE '' END FROM pg_catalog.pg_proc WHERE pronamespace = to_regnamespace('{schema}')
    UNION ALL
    SELECT 'sequence', relname, '' FROM ours WHERE relkind = 'S'
    UNION ALL
    SELECT 'view', relname, '' FROM ours WHERE relkind = 'v'
)
SELECT kind, name, replace(definition, to_regnamespace('{schema}')::text || '.', '') FROM described
