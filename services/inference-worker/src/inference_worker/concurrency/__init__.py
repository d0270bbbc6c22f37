"""The worker's face: gRPC in, domain out."""
