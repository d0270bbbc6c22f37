"""What operators change while the fleet runs: routes, upstreams, flags, and the log of the changes."""
