"""Wires files, vector stores and what belongs to them."""

from typing import Final

from chassis.grpc import Channel

from gateway.deletions import http as deletions_http
from gateway.deletions.retrieval_client import DeletionsClient
from gateway.file_batches import http as file_batches_http
from gateway.file_batches.retrieval_client import FileBatchesClient
from gateway.files import http as files_http
from gateway.files.retrieval_client import FilesClient
from gateway.store_migrations import http as store_migrations_http
from gateway.store_migrations.retrieval_client import StoreMigrationsClient
from gateway.vector_stores import http as vector_stores_http
from gateway.vector_stores.retrieval_client import VectorStoresClient
from gateway.web.dependencies import Dependencies

FEATURES: Final = (files_http, vector_stores_http, file_batches_http, store_migrations_http, deletions_http)


def document_clients(retrieval: Channel, max_upload_bytes: int) -> Dependencies:
    """Return the clients of these features, and the size of the largest upload."""
    return {
        FilesClient: FilesClient(retrieval),
        files_http.UploadLimits: files_http.UploadLimits(max_upload_bytes),
        VectorStoresClient: VectorStoresClient(retrieval),
        FileBatchesClient: FileBatchesClient(retrieval),
        StoreMigrationsClient: StoreMigrationsClient(retrieval),
        DeletionsClient: DeletionsClient(retrieval),
    }
