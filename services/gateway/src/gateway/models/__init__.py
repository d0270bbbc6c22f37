"""The models that a tenant may use."""
