"""The ports of the domain, each on its technology."""
