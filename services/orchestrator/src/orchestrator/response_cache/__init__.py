"""The response cache: answers that are given again to equal requests of the same tenant."""
