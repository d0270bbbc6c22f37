"""What goes out: Postgres and the other services."""
