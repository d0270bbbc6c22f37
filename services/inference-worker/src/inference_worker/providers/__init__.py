"""The worker's hands: upstreams, tokenizers, telemetry."""
