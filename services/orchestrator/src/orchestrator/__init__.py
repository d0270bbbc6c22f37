"""The orchestrator: prepares, runs and settles inference requests."""
