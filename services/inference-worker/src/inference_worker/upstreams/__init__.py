"""Upstreams that operators declare by the API, beside those of the settings."""
