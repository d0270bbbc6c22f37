"""Requests per minute of a plan: counted in Redis, or in memory while Redis is down."""
