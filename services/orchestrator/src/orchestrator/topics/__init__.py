"""The command that creates the topics of all services, from the list in `proto/topics`."""
