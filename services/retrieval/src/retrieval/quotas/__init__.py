"""What a plan allows a tenant to keep."""
