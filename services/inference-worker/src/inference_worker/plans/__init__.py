"""Inference plans: candidates tried in order until one answers."""
