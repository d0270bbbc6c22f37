"""Usage: sums over the settled calls of a tenant."""
