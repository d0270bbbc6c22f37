"""What comes in: gRPC."""
