"""Public model names and the upstreams that serve them."""
