"""Webhook endpoints of a tenant and their deliveries, from the orchestrator."""
