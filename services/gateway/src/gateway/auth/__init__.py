"""What the edge decides: who may come in, and which requests make sense."""
