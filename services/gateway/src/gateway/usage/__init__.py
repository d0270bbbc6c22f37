"""What a tenant used, and the cost statement of each request, from metering."""
