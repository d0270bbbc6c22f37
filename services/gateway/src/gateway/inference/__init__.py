"""How the gateway reaches Postgres, Redis and the other services."""
