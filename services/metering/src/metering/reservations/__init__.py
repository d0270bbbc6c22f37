"""Reservations: money held for a request before it is sent to a provider."""
