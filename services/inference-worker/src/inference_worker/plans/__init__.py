"""What the worker decides: which candidate is tried, when it is given up, and what it used."""
