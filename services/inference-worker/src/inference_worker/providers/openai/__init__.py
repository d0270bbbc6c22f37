"""Upstreams with OpenAI's API."""
