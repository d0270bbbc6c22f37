"""Exposures and clamped usage for operators, from metering."""
