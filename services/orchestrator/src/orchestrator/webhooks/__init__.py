"""Events of a tenant, sent to its own HTTP endpoints by the Standard Webhooks specification."""
