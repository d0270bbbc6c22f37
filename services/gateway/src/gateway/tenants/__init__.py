"""The customers of the installation."""
