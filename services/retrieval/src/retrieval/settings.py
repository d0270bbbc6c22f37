"""Settings of retrieval, from the environment. Only main reads them."""

from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from chassis.settings import (
    GrpcSection,
    KafkaSection,
    PeersSection,
    PostgresSection,
    Section,
    ServiceSettings,
    peer_address,
)
from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from retrieval.embeddings.model import DIMENSIONS, MAX_DIMENSIONS
from retrieval.quotas.model import Quota, Quotas

MEGABYTE = 1024 * 1024
OBJECT_STORES = ("file", "s3", "gs", "az")


class EventsSection(KafkaSection):
    """Kafka, for events of attached files."""

    group: str = Field("retrieval", description="Consumer group; one per deployment.")


class Peers(PeersSection):
    """gRPC addresses of other services."""

    orchestrator: str = peer_address("the orchestrator", "127.0.0.1:9001")


class ObjectsSection(Section):
    """The object store for the bytes of files."""

    url: str = Field(
        description="Folder or bucket: `file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…`; not the credentials."
    )
    max_upload_bytes: int = Field(512 * MEGABYTE, ge=1, description="Size of the largest file that can be uploaded.")
    max_uploads: int = Field(
        32, ge=1, description="Uploads at once. Each takes 3 MB of memory for a folder, and 15 MB for a bucket."
    )
    max_uploads_per_tenant: int = Field(8, ge=1, description="Of these, uploads of one tenant.")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in OBJECT_STORES:
            raise ValueError(f"must start with one of {', '.join(f'{scheme}://' for scheme in OBJECT_STORES)}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be a folder or a bucket with a prefix, without credentials, `?` or `#`")
        if parts.scheme == "file" and (parts.netloc or not parts.path):
            raise ValueError("must name a folder by its absolute path: `file:///path`")
        if parts.scheme != "file" and not parts.netloc:
            raise ValueError("names no bucket")
        return value


class EmbeddingSection(Section):
    """The embedding models."""

    model: str = Field("all-minilm-l6-v2", description="Public name of the embedding model; it has 384 dimensions.")
    models: dict[str, int] = Field(
        {},
        description='Further models that vector stores may use, with their dimensions, as JSON: `{"bge-large": 1024}`.'
        " Each must read 256 tokens. Keep a model for as long as a store uses it.",
    )
    new_store_model: str = Field("", description="Model of new vector stores that name none; empty is `model`.")
    deadline: timedelta = Field(
        timedelta(seconds=60), gt=timedelta(0), description="Deadline for embedding one batch, or a query."
    )
    tokenizer: Path | None = Field(
        None, description="The model's `tokenizer.json`; without it tokens are estimated, and chunks are shorter."
    )

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        for name, dimensions in self.models.items():
            if not name or not 1 <= dimensions <= MAX_DIMENSIONS:
                raise ValueError(f"models: {name!r} needs a name and 1 to {MAX_DIMENSIONS} dimensions")
        if self.models.get(self.model, DIMENSIONS) != DIMENSIONS:
            raise ValueError(f"models: {self.model!r} is the service's own model, which has {DIMENSIONS} dimensions")
        if self.new_store_model not in {"", self.model, *self.models}:
            raise ValueError(f"new_store_model: {self.new_store_model!r} is neither `model` nor one of `models`")
        return self


class RerankSection(Section):
    """A model that reads the query and each of the best 50 passages together, and orders them anew."""

    model: str = Field(
        "", description="Public name of the reranker; empty: there is none, and to ask for it is refused."
    )
    timeout: timedelta = Field(
        timedelta(seconds=1),
        gt=timedelta(0),
        description="Longest wait for its scores. After it the answer has the order of the search, and says so.",
    )
    by_default: bool = Field(False, description="Whether searches that ask for no ranker are ordered by it, too.")

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.by_default and not self.model:
            raise ValueError("by_default: needs `model`, the name of a reranker")
        return self


class IngestionSection(Section):
    """Ingestion of attached files."""

    slots: int = Field(
        16,
        ge=1,
        le=64,
        description="Files that one process ingests at the same time; of them `PARSER__PROCESSES` are being parsed.",
    )
    batch_size: int = Field(32, ge=1, le=512, description="Chunks that are embedded by one call and stored together.")
    max_bytes: int = Field(64 * MEGABYTE, ge=1, description="Size of the largest file that is indexed.")
    lease: timedelta = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        description="Time after which a file whose process was killed can be claimed again.",
    )
    poll_interval: timedelta = Field(
        timedelta(seconds=5), gt=timedelta(0), description="Pause between two queries for files whose event was lost."
    )


class ParserSection(Section):
    """Limits for parsing documents. All but `processes` are for one document."""

    processes: int = Field(2, ge=1, le=64, description="Documents that are parsed at the same time.")
    memory_bytes: int = Field(1024 * MEGABYTE, ge=256 * MEGABYTE, description="Address space of the parser process.")
    cpu_seconds: int = Field(120, ge=1, description="CPU time of the parser process.")
    expanded_bytes: int = Field(256 * MEGABYTE, ge=1, description="Size that an archive, or its text, may expand to.")
    block_seconds: float = Field(60.0, gt=0, description="Wall time until the next piece of text.")


class DeletionsSection(Section):
    """Deletion of bytes and chunks."""

    sweep_interval: timedelta = Field(
        timedelta(seconds=1), gt=timedelta(0), description="Pause between two queries for pending deletions."
    )


class PlanQuota(Section):
    """What a tenant of a plan may keep. Without a number there is no limit."""

    files: int | None = Field(None, ge=0, description="Uploaded files.")
    file_bytes: int | None = Field(None, ge=0, description="Bytes of uploaded files.")
    vector_stores: int | None = Field(None, ge=0, description="Vector stores.")
    chunks: int | None = Field(
        None, ge=0, description="Passages with their vectors in all vector stores; a file in two stores counts twice."
    )

    def quota(self) -> Quota:
        return Quota(**self.model_dump())


class QuotasSection(Section):
    """What a tenant may keep, by its plan. A lower quota deletes nothing, and refuses what comes."""

    default: PlanQuota = Field(default_factory=PlanQuota, description="For plans that are not named.")
    plans: dict[str, PlanQuota] = Field(default_factory=dict, description="By the name of a tenant's plan.")

    def quotas(self) -> Quotas:
        return Quotas(self.default.quota(), {name: plan.quota() for name, plan in self.plans.items()})


class ExpirySection(Section):
    """Vector stores that expire."""

    sweep_interval: timedelta = Field(
        timedelta(seconds=60), gt=timedelta(0), description="Pause between two queries for stores whose time is over."
    )


class ReindexingSection(Section):
    """Indexing the keywords of files anew when the rules for words have changed."""

    interval: timedelta = Field(
        timedelta(seconds=10),
        gt=timedelta(0),
        description="Pause between two batches of 20 files while a process has new files; when idle it does not pause.",
    )


class StoreMigrationsSection(Section):
    """Changes of vector stores to another embedding model."""

    search_grace: timedelta = Field(
        timedelta(seconds=60),
        ge=timedelta(seconds=0),
        description="Time from a change to the deletion of the old vectors; a search may take that long.",
    )


class SemanticCacheSection(Section):
    """Prompts whose answers the orchestrator has cached, by meaning."""

    max_entries_per_tenant: int = Field(
        20_000, ge=1, le=100_000, description="Prompts kept of a tenant; beyond them, those that expire first go."
    )
    sweep_interval: timedelta = Field(
        timedelta(seconds=10), gt=timedelta(0), description="Pause between two deletions of expired prompts."
    )


class Settings(ServiceSettings):
    """Settings of retrieval."""

    model_config = SettingsConfigDict(env_prefix="RETRIEVAL_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection = Field(description="Files, chunks, vectors.")
    kafka: EventsSection = Field(description="Events of attached files.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    peers: Peers = Field(default_factory=Peers, description="Addresses of other services.")
    objects: ObjectsSection = Field(description="The object store for the bytes of files.")
    embedding: EmbeddingSection = Field(default_factory=EmbeddingSection, description="The embedding model.")
    rerank: RerankSection = Field(default_factory=RerankSection, description="The reranker of searches.")
    ingestion: IngestionSection = Field(default_factory=IngestionSection, description="Ingestion of attached files.")
    parser: ParserSection = Field(default_factory=ParserSection, description="Limits for parsing one document.")
    deletions: DeletionsSection = Field(default_factory=DeletionsSection, description="Deletion of bytes and chunks.")
    quotas: QuotasSection = Field(default_factory=QuotasSection, description="What a tenant may keep, by its plan.")
    expiry: ExpirySection = Field(default_factory=ExpirySection, description="Vector stores that expire.")
    reindexing: ReindexingSection = Field(
        default_factory=ReindexingSection, description="Indexing keywords anew after an update."
    )
    store_migrations: StoreMigrationsSection = Field(
        default_factory=StoreMigrationsSection, description="Changes of stores to another embedding model."
    )
    semantic_cache: SemanticCacheSection = Field(
        default_factory=SemanticCacheSection, description="Prompts of the semantic cache."
    )
    exact_scan_chunks: int = Field(
        5_000, ge=0, description="Chunks of a vector store up to which `indexes` proposes no HNSW index."
    )
