-- Routes of the embedded models. A route that exists already keeps its candidates.
WITH added AS (
    INSERT INTO orchestration.routes (tenant_id, model, task) VALUES
        ('*', 'smollm2', 'chat'),
        ('*', 'all-minilm-l6-v2', 'embedding')
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, model
)
INSERT INTO orchestration.route_candidates
    (tenant_id, model, position, upstream, upstream_model, max_output_tokens, options)
SELECT tenant_id, model, position, upstream, upstream_model, max_output_tokens, options::jsonb
FROM added JOIN (VALUES
    ('smollm2', 0, 'local', 'smollm2-135m-instruct', 1024, '{"capabilities": {"vision": false}}'),
    ('all-minilm-l6-v2', 0, 'minilm', 'all-minilm-l6-v2', 0, '{}')
) AS candidate (model, position, upstream, upstream_model, max_output_tokens, options) USING (model);
-- A route from before gets the capability as well, unless it was changed by the API or the command line.
UPDATE orchestration.route_candidates AS candidate SET options = '{"capabilities": {"vision": false}}'
FROM orchestration.routes AS route
WHERE (candidate.tenant_id, candidate.model) = (route.tenant_id, route.model) AND route.version = 0
    AND (candidate.tenant_id, candidate.model, candidate.upstream) = ('*', 'smollm2', 'local')
    AND candidate.upstream_model = 'smollm2-135m-instruct' AND candidate.options = '{}';
