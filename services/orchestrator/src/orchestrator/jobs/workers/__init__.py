"""The queue door of workers."""
