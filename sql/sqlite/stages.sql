-- name: get_stages :many
SELECT code, pipeline, name, kind, returns_to FROM {schema}.stages ORDER BY code

-- name: insert_stage :none
INSERT INTO {schema}.stages (code, pipeline, name, kind, returns_to)
VALUES (:code, :pipeline, :name, :kind, :returns_to)
ON CONFLICT DO NOTHING
