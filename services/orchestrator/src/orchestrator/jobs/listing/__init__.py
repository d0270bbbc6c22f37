"""Jobs as their tenants, and operators, read them."""
