"""What the gateway says to the world: the OpenAI-shaped REST API, the admin API, and its gRPC face."""
