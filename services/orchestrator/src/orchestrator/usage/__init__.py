"""Usage events, which settle reservations."""
