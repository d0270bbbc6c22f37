"""Jobs: inference that is accepted now and runs later, in the orchestrator."""
