"""Rerankers of providers, over HTTP: Cohere's, Jina's, Voyage's, Hugging Face's TEI, and servers with the same API."""
