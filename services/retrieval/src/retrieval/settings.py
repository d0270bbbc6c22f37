"""Every knob that retrieval has. Read once, in main, and passed on as values."""

from datetime import timedelta
from pathlib import Path

from chassis.settings import GrpcSection, KafkaSection, PostgresSection, Section, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict

MEGABYTE = 1024 * 1024


class EventsSection(KafkaSection):
    """Kafka, where attached files are announced."""

    group: str = Field("retrieval", description="Consumer group; one per deployment.")


class OrchestratorSection(Section):
    """The orchestrator, which embeds."""

    target: str = Field("127.0.0.1:9001", description="gRPC address of the orchestrator: `host:port`.")


class ObjectsSection(Section):
    """Where the bytes of files are."""

    url: str = Field(
        description="Folder or bucket: `file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…`; not the credentials."
    )
    max_upload_bytes: int = Field(512 * MEGABYTE, ge=1, description="Size of the largest file that is taken.")


class EmbeddingSection(Section):
    """How texts become vectors. Another model needs a new index."""

    model: str = Field("all-minilm-l6-v2", description="Public name of the embedding model; it has 384 dimensions.")
    deadline: timedelta = Field(
        timedelta(seconds=60), gt=timedelta(0), description="Time that one batch, or a query, is given."
    )
    tokenizer: Path | None = Field(
        None, description="The model's `tokenizer.json`; without it tokens are estimated, and chunks are shorter."
    )


class IngestSection(Section):
    """How files are indexed."""

    slots: int = Field(2, ge=1, le=64, description="Files that one process indexes at once.")
    batch: int = Field(32, ge=1, le=512, description="Chunks that are embedded by one call and stored together.")
    max_bytes: int = Field(64 * MEGABYTE, ge=1, description="Size of the largest file that is indexed.")
    lease: timedelta = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        description="How long a file waits whose process was killed; a living one renews it.",
    )
    look: timedelta = Field(
        timedelta(seconds=5), gt=timedelta(0), description="Pause between two looks for files whose event was lost."
    )


class ParserSection(Section):
    """What reading one document may cost."""

    memory_bytes: int = Field(1024 * MEGABYTE, ge=256 * MEGABYTE, description="Address space of the reading process.")
    cpu_seconds: int = Field(120, ge=1, description="CPU time of the reading process.")
    expanded_bytes: int = Field(256 * MEGABYTE, ge=1, description="Size that an archive, or its text, may expand to.")
    block_seconds: float = Field(60.0, gt=0, description="Wall time until the next piece of text.")


class Settings(ServiceSettings):
    """Settings of retrieval."""

    model_config = SettingsConfigDict(env_prefix="RETRIEVAL_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection = Field(description="Files, chunks, vectors.")
    kafka: EventsSection = Field(default_factory=EventsSection, description="Where attached files are announced.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    orchestrator: OrchestratorSection = Field(default_factory=OrchestratorSection, description="Who embeds.")
    objects: ObjectsSection = Field(description="Where the bytes of files are.")
    embedding: EmbeddingSection = Field(default_factory=EmbeddingSection, description="How texts become vectors.")
    ingest: IngestSection = Field(default_factory=IngestSection, description="How files are indexed.")
    parser: ParserSection = Field(default_factory=ParserSection, description="What reading a document may cost.")
    sweep: timedelta = Field(
        timedelta(seconds=1), gt=timedelta(0), description="Pause between two looks for what is to be removed."
    )
    exact_scan_chunks: int = Field(
        20_000, ge=0, description="Chunks of a vector store up to which `indexes` proposes no HNSW index."
    )
