-- Routes of the embedded models. A route that exists already keeps its candidates.
WITH added AS (
    INSERT INTO orchestration.routes (tenant_id, model, task) VALUES
        ('*', 'smollm2', 'chat'),
        ('*', 'all-minilm-l6-v2', 'embedding')
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, model
)
INSERT INTO orchestration.route_candidates (tenant_id, model, position, upstream, upstream_model, max_output_tokens)
SELECT tenant_id, model, position, upstream, upstream_model, max_output_tokens
FROM added JOIN (VALUES
    ('smollm2', 0, 'local', 'smollm2-135m-instruct', 1024),
    ('all-minilm-l6-v2', 0, 'minilm', 'all-minilm-l6-v2', 0)
) AS candidate (model, position, upstream, upstream_model, max_output_tokens) USING (model);
