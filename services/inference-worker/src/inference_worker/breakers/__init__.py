"""Circuits: which upstreams, credentials and models are worth a call now."""
