-- name: get_stages :many
SELECT code, pipeline, name, kind, returns_to FROM {schema}.stages ORDER BY code

-- name: insert_stage :none
INSERT INTO {schema}.stages (code, pipeline, name, kind, returns_to)
VALUES (:code::smallint, :pipeline::smallint, :name::text, :kind::text, :returns_to::smallint)
ON CONFLICT DO NOTHING
