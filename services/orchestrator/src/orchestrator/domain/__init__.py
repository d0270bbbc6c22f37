"""What the orchestrator decides, free of wires and stores."""
