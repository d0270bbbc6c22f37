"""Queues as operators see them: how full they are, what is paused, and the jobs that nothing else ends."""
