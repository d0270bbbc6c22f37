"""Plans, and the inference workers that run them."""
