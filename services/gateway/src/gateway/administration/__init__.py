"""What operators configure at run time, and the log of it."""
