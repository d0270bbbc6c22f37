"""Retrieved passages in prompts."""
