"""The ways in: gRPC, events from Kafka, and time."""
