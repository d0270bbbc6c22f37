"""Prices of models as litellm's package lists them, in the shape of `argosy.yaml`."""
