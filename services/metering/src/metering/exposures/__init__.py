"""Exposures: settlements that an operator looks at, and decides about."""
