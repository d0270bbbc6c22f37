"""Upstreams and their credentials, as operators declare them; workers open them."""
