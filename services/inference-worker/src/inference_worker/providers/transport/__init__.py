"""HTTP/1.1 and server-sent events, for the providers that the worker calls without litellm."""
