"""The order in which rows are locked."""
