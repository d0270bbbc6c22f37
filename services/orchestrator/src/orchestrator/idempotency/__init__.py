"""Requests that clients may repeat under a key of their own."""
