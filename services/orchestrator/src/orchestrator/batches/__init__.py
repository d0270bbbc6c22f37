"""Batches of requests, as OpenAI's Batch API has them."""
