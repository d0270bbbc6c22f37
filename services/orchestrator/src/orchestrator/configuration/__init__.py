"""The log of all changes of the configuration, and how every process learns of them."""
