"""What happens to a job, for those who watch it."""
