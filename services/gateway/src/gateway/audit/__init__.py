"""The record of administrative writes."""
