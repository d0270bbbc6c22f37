"""The queue door: jobs come from Kafka, are claimed from the orchestrator, run as plans, and are completed there."""
