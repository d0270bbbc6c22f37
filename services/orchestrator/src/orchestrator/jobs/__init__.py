"""Jobs: inference that is accepted now and run later, once."""
