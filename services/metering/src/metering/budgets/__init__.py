"""Budgets: the cap of a tenant, what is spent and what is held."""
