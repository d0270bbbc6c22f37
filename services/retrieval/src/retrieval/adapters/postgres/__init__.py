"""Retrieval's schema in Postgres with pgvector."""

from retrieval.adapters.postgres.files import PostgresFiles
from retrieval.adapters.postgres.index import PostgresIndex
from retrieval.adapters.postgres.ingests import PostgresIngests
from retrieval.adapters.postgres.removals import PostgresRemovals
from retrieval.adapters.postgres.vector_stores import PostgresVectorStores

__all__ = ["PostgresFiles", "PostgresIndex", "PostgresIngests", "PostgresRemovals", "PostgresVectorStores"]
