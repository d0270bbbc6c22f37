"""What every HTTP request passes through, and what all endpoints share. Imports no feature but auth and rate_limits."""
