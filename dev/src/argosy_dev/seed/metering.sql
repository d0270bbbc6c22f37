-- Prices of the embedded models, so that their first bill is not zero. Metering never changes a price row, so the
-- versions are fixed and a second run inserts nothing.
INSERT INTO metering.prices (tenant_id, version, price_key, input_per_million, output_per_million, effective_at) VALUES
    ('*', 'prc_019b76da80007000800000000000a001', 'local/smollm2-135m-instruct', 50000000, 200000000, '2026-01-01T00:00:00Z'),
    ('*', 'prc_019b76da80007000800000000000a002', 'minilm/all-minilm-l6-v2', 10000000, 0, '2026-01-01T00:00:00Z')
ON CONFLICT DO NOTHING;
