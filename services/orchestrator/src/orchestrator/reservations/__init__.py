"""Money reserved before a provider is called."""
