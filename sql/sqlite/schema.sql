-- name: find_relations :many
SELECT lower(name), type FROM {schema}.sqlite_master WHERE type IN ('table', 'view')

-- name: find_indexes :many
SELECT lower(name), lower(tbl_name) FROM {schema}.sqlite_master WHERE type = 'index'

-- name: get_migrations :many
SELECT version, name, checksum FROM {schema}.pandora_migrations ORDER BY version

-- name: create_ledger :script
CREATE TABLE pandora_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
) STRICT

-- name: record_migration :none
INSERT INTO {schema}.pandora_migrations (version, name, checksum) VALUES (:version, :name, :checksum)

-- libpndb knows PostgreSQL only: no table of this dialect can be its.
-- name: adoptable_columns :many
SELECT NULL, NULL WHERE FALSE

-- name: get_columns :many
SELECT name, type FROM pragma_table_info(:table, 'main')

-- name: get_primary_key :many
SELECT name FROM pragma_table_info(:table, 'main') WHERE pk > 0 ORDER BY pk

-- name: estimate_rows :one
SELECT 0

-- name: describe_schema :many
SELECT 'column', tables.name || '.' || columns.name,
       columns.type || CASE WHEN columns."notnull" THEN ' NOT NULL' ELSE '' END
FROM {schema}.sqlite_master AS tables JOIN pragma_table_info(tables.name, 'main') AS columns
WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\_%' ESCAPE '\'
UNION ALL
SELECT type, name, sql FROM {schema}.sqlite_master WHERE type IN ('table', 'index', 'trigger', 'view') AND sql IS NOT NULL
  AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
