"""The life of a request: prepare, infer, finalize."""
