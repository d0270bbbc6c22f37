"""What a tenant may spend, from metering."""
