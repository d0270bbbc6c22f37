"""Scores of documents for a query, in the shape of Jina and Cohere."""
