"""Creating, listing and revoking API keys, and the first keys of an installation."""
