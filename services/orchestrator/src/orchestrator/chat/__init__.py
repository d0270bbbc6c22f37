"""Chat completions: prepare, infer, finalize."""
