"""The fleet on one machine: everything real, nothing to install."""
