"""Settlement: how provider calls end: billed, released or exposed."""
