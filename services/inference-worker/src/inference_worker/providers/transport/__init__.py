"""HTTP/1.1, for the providers that the worker calls without litellm."""
