"""A request that succeeds, with its preconditions, for each method of each service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2
from argosy.metering.v1 import events_pb2 as metering_events_pb2
from argosy.metering.v1 import metering_pb2
from argosy.orchestration.v1 import orchestration_pb2
from argosy.retrieval.v1 import retrieval_pb2, semantic_cache_pb2
from chassis.ids import new_id
from chassis.tenancy import Principal
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from tests.e2e.call_context import METHODS, CallContext, upload
from tests.fleet.environment import MODEL_WITHOUT_ROUTE, RERANKER

MODEL, UPSTREAM_MODEL = "sim-transports", "instant"
PRICE_KEY = f"simulator/{UPSTREAM_MODEL}"
EMBEDDING = "all-minilm-l6-v2"


def chat(model: str) -> bytes:
    """The body of a chat completion."""
    words = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Echo it both ways."}]}
    return json.dumps(words).encode()


Case = Callable[[CallContext], Awaitable[Sequence[Message]]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register the case of the method that the function is named after."""
    name = function.__name__.replace("_", "").lower()
    (path,) = (path for path in METHODS if path.split("/")[1].split(".")[1] + path.rpartition("/")[2].lower() == name)
    CASES[path] = function
    return function


@case
async def orchestration_generate(context: CallContext) -> Sequence[Message]:
    body = chat(MODEL)
    return [orchestration_pb2.GenerateRequest(request_id=new_id("req_"), model=MODEL, body=body, stream=True)]


@case
async def orchestration_embed(context: CallContext) -> Sequence[Message]:
    return [orchestration_pb2.EmbedRequest(request_id=new_id("req_"), model=EMBEDDING, inputs=["one", "the other"])]


@case
async def orchestration_embed_in_pieces(context: CallContext) -> Sequence[Message]:
    request = orchestration_pb2.EmbedRequest(request_id=new_id("req_"), model=EMBEDDING, inputs=["one", "the other"])
    return [orchestration_pb2.EmbedInPiecesRequest(request=request)]


@case
async def orchestration_rerank(context: CallContext) -> Sequence[Message]:
    documents = ["an invoice", "a ship sails"]
    return [
        orchestration_pb2.RerankRequest(request_id=new_id("req_"), model=RERANKER, query="a ship", documents=documents)
    ]


@case
async def orchestration_list_models(context: CallContext) -> Sequence[Message]:
    return [orchestration_pb2.ListModelsRequest()]


@case
async def orchestration_get_request_states(context: CallContext) -> Sequence[Message]:
    context.principal = Principal(context.principal.tenant_id, roles=frozenset({"service"}))
    reference = orchestration_pb2.RequestRef(tenant_id=context.principal.tenant_id, request_id=new_id("req_"))
    return [orchestration_pb2.GetRequestStatesRequest(requests=[reference])]


@case
async def inference_infer(context: CallContext) -> Sequence[Message]:
    candidate = inference_pb2.Candidate(upstream="simulator", model=UPSTREAM_MODEL, body=chat(UPSTREAM_MODEL))
    plan = inference_pb2.Plan(candidates=[candidate], stream=True)
    return [inference_pb2.InferRequest(run=inference_pb2.Run(request_id=new_id("req_"), plan=plan))]


@case
async def inference_embed(context: CallContext) -> Sequence[Message]:
    candidates = [inference_pb2.Candidate(upstream="minilm", model=EMBEDDING)]
    return [inference_pb2.EmbedRequest(request_id=new_id("req_"), candidates=candidates, inputs=["one", "the other"])]


@case
async def inference_embed_in_pieces(context: CallContext) -> Sequence[Message]:
    candidates = [inference_pb2.Candidate(upstream="minilm", model=EMBEDDING)]
    request = inference_pb2.EmbedRequest(request_id=new_id("req_"), candidates=candidates, inputs=["one", "the other"])
    return [inference_pb2.EmbedInPiecesRequest(request=request)]


@case
async def inference_rerank(context: CallContext) -> Sequence[Message]:
    candidates = [inference_pb2.Candidate(upstream="overlap", model="overlap")]
    documents = ["an invoice", "a ship sails"]
    return [
        inference_pb2.RerankRequest(
            request_id=new_id("req_"), candidates=candidates, query="a ship", documents=documents
        )
    ]


@case
async def metering_reserve(context: CallContext) -> Sequence[Message]:
    bounds = [metering_pb2.TokenBound(price_key=PRICE_KEY, input_tokens=1_000, output_tokens=200)]
    lease = Duration(seconds=5)  # no usage event settles it
    return [metering_pb2.ReserveRequest(request_id=new_id("req_"), bounds=bounds, lease=lease)]


@case
async def metering_reserve_hits(context: CallContext) -> Sequence[Message]:
    tenant_id = context.principal.tenant_id
    context.principal = Principal("orchestrator", roles=frozenset({"service"}))
    usage = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=10, output_tokens=2)
    answer = metering_pb2.HitCost(
        tenant_id=tenant_id, price_key=PRICE_KEY, usage=usage, discount_percent=50, outcome=common_pb2.CACHE_OUTCOME_HIT
    )
    hits = [metering_pb2.HitReservation(request_id=new_id("req_"), project_id="prj_two") for _ in range(2)]
    return [metering_pb2.ReserveHitsRequest(answers=[answer], hits=hits, lease=Duration(seconds=5))]


@case
async def metering_start_attempt(context: CallContext) -> Sequence[Message]:
    (reserve,) = await metering_reserve(context)
    await context.call("Reserve", reserve)
    ended = metering_events_pb2.AttemptUsage(attempt=1, price_key=PRICE_KEY)
    ended.usage.source = common_pb2.USAGE_SOURCE_UNKNOWN
    request_id = reserve.request_id  # type: ignore[attr-defined]
    return [metering_pb2.StartAttemptRequest(request_id=request_id, attempt=2, bound=0, ended=[ended])]


async def expired(context: CallContext) -> str:
    """Let the lease of a reservation end, so that its first call is exposed; the caller becomes an administrator."""
    (reserve,) = await metering_reserve(context)
    reserve.lease.FromSeconds(1)  # type: ignore[attr-defined]
    await context.call("Reserve", reserve)
    request_id: str = reserve.request_id  # type: ignore[attr-defined]
    statement = metering_pb2.GetRequestStatementRequest(request_id=request_id)
    async with asyncio.timeout(30):
        while not (await context.call("GetRequestStatement", statement)).settlements:
            await asyncio.sleep(0.2)
    context.principal = Principal(context.principal.tenant_id, roles=frozenset({"member", "platform_admin"}))
    return request_id


@case
async def metering_list_settlements(context: CallContext) -> Sequence[Message]:
    await expired(context)
    return [metering_pb2.ListSettlementsRequest(filter=metering_pb2.SETTLEMENT_FILTER_OPEN_EXPOSURE)]


@case
async def metering_reconcile_exposure(context: CallContext) -> Sequence[Message]:
    request = metering_pb2.ReconcileExposureRequest(request_id=await expired(context), attempt=1, note="for the test")
    request.tenant_id = context.principal.tenant_id
    request.decision = metering_pb2.RECONCILIATION_DECISION_WRITTEN_OFF
    return [request]


@case
async def metering_get_request_statement(context: CallContext) -> Sequence[Message]:
    (reserve,) = await metering_reserve(context)
    await context.call("Reserve", reserve)
    return [metering_pb2.GetRequestStatementRequest(request_id=reserve.request_id)]  # type: ignore[attr-defined]


@case
async def metering_get_usage(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal  # its usage no longer changes: the file is embedded
    return [metering_pb2.GetUsageRequest(by_day=True)]


@case
async def metering_get_budget(context: CallContext) -> Sequence[Message]:
    await context.call("Reserve", *await metering_reserve(context))
    return [metering_pb2.GetBudgetRequest()]


@case
async def metering_set_budget(context: CallContext) -> Sequence[Message]:
    context.principal = Principal(context.principal.tenant_id, roles=frozenset({"member", "platform_admin"}))
    return [metering_pb2.SetBudgetRequest(cap=common_pb2.Money(nano_usd=7_000_000_001))]


@case
async def metering_list_prices(context: CallContext) -> Sequence[Message]:
    return [metering_pb2.ListPricesRequest()]


@case
async def metering_set_price(context: CallContext) -> Sequence[Message]:
    context.principal = Principal(context.principal.tenant_id, roles=frozenset({"member", "platform_admin"}))
    price = metering_pb2.Price(price_key="simulator/transports")
    price.input_per_million.nano_usd, price.output_per_million.nano_usd = 3, 5
    return [metering_pb2.SetPriceRequest(price=price)]


@case
async def retrieval_upload_file(context: CallContext) -> Sequence[Message]:
    return upload("transports.txt")


@case
async def retrieval_list_files(context: CallContext) -> Sequence[Message]:
    await context.add_file("first.txt")
    await context.add_file("second.txt")
    return [retrieval_pb2.ListFilesRequest(limit=1)]


@case
async def retrieval_get_file(context: CallContext) -> Sequence[Message]:
    return [retrieval_pb2.GetFileRequest(file_id=await context.add_file())]


@case
async def retrieval_download_file(context: CallContext) -> Sequence[Message]:
    return [retrieval_pb2.DownloadFileRequest(file_id=await context.add_file())]


@case
async def retrieval_delete_file(context: CallContext) -> Sequence[Message]:
    return [retrieval_pb2.DeleteFileRequest(file_id=await context.add_file())]


@case
async def retrieval_create_vector_store(context: CallContext) -> Sequence[Message]:
    return [retrieval_pb2.CreateVectorStoreRequest(name="two ways")]


@case
async def retrieval_list_vector_stores(context: CallContext) -> Sequence[Message]:
    await context.add_store()
    await context.add_store()
    return [retrieval_pb2.ListVectorStoresRequest(limit=1)]


@case
async def retrieval_get_vector_store(context: CallContext) -> Sequence[Message]:
    return [retrieval_pb2.GetVectorStoreRequest(vector_store_id=await context.add_store())]


@case
async def retrieval_update_vector_store(context: CallContext) -> Sequence[Message]:
    store_id = await context.add_store()
    metadata = retrieval_pb2.Metadata(values={"team": "ports"})
    return [
        retrieval_pb2.UpdateVectorStoreRequest(
            vector_store_id=store_id, name="new", metadata=metadata, expires_after_days=7
        )
    ]


@case
async def retrieval_delete_vector_store(context: CallContext) -> Sequence[Message]:
    return [retrieval_pb2.DeleteVectorStoreRequest(vector_store_id=await context.add_store())]


@case
async def retrieval_attach_file(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal  # a second time, which changes nothing
    return [
        retrieval_pb2.AttachFileRequest(vector_store_id=context.searchable.store_id, file_id=context.searchable.file_id)
    ]


@case
async def retrieval_get_attachment(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal
    return [
        retrieval_pb2.GetAttachmentRequest(
            vector_store_id=context.searchable.store_id, file_id=context.searchable.file_id
        )
    ]


@case
async def retrieval_list_attachments(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal
    return [retrieval_pb2.ListAttachmentsRequest(vector_store_id=context.searchable.store_id)]


@case
async def retrieval_update_attachment(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal
    store_id, file_id = context.searchable.store_id, context.searchable.file_id
    attributes = retrieval_pb2.Attributes(values={"year": retrieval_pb2.AttributeValue(integer=2024)})
    return [retrieval_pb2.UpdateAttachmentRequest(vector_store_id=store_id, file_id=file_id, attributes=attributes)]


@case
async def retrieval_detach_file(context: CallContext) -> Sequence[Message]:
    file_id = await context.add_file()
    return [retrieval_pb2.DetachFileRequest(vector_store_id=await context.add_store(file_id), file_id=file_id)]


@case
async def retrieval_create_file_batch(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal
    file_id = context.searchable.file_id  # indexed, so that its state does not change
    return [
        retrieval_pb2.CreateFileBatchRequest(vector_store_id=context.searchable.store_id, file_ids=[file_id, file_id])
    ]


@case
async def retrieval_get_file_batch(context: CallContext) -> Sequence[Message]:
    store_id, batch_id = await context.add_file_batch()
    return [retrieval_pb2.GetFileBatchRequest(vector_store_id=store_id, batch_id=batch_id)]


@case
async def retrieval_cancel_file_batch(context: CallContext) -> Sequence[Message]:
    store_id, batch_id = await context.add_file_batch()
    return [retrieval_pb2.CancelFileBatchRequest(vector_store_id=store_id, batch_id=batch_id)]


@case
async def retrieval_list_file_batch_files(context: CallContext) -> Sequence[Message]:
    store_id, batch_id = await context.add_file_batch()
    return [retrieval_pb2.ListFileBatchFilesRequest(vector_store_id=store_id, batch_id=batch_id)]


@case
async def retrieval_start_store_migration(context: CallContext) -> Sequence[Message]:
    store_id, _ = await context.add_store_migration()
    return [retrieval_pb2.StartStoreMigrationRequest(vector_store_id=store_id, embedding_model=MODEL_WITHOUT_ROUTE)]


@case
async def retrieval_get_store_migration(context: CallContext) -> Sequence[Message]:
    store_id, migration_id = await context.add_store_migration()
    return [retrieval_pb2.GetStoreMigrationRequest(vector_store_id=store_id, migration_id=migration_id)]


@case
async def retrieval_list_store_migrations(context: CallContext) -> Sequence[Message]:
    store_id, _ = await context.add_store_migration()
    return [retrieval_pb2.ListStoreMigrationsRequest(vector_store_id=store_id, limit=1)]


@case
async def retrieval_cancel_store_migration(context: CallContext) -> Sequence[Message]:
    store_id, migration_id = await context.add_store_migration()
    return [retrieval_pb2.CancelStoreMigrationRequest(vector_store_id=store_id, migration_id=migration_id)]


@case
async def retrieval_get_deletion_report(context: CallContext) -> Sequence[Message]:
    file_id = await context.add_file()
    await context.call("DeleteFile", retrieval_pb2.DeleteFileRequest(file_id=file_id))
    return [retrieval_pb2.GetDeletionReportRequest(resource_id=file_id)]


@case
async def retrieval_search(context: CallContext) -> Sequence[Message]:
    context.principal = context.searchable.principal
    return [retrieval_pb2.SearchRequest(vector_store_ids=[context.searchable.store_id], query="Who repaired the lamp?")]


PARTITION = b"p" * 32


@case
async def retrieval_find_prompts(context: CallContext) -> Sequence[Message]:
    prompt = "What is the capital of France?"
    return [semantic_cache_pb2.FindPromptsRequest(partition=PARTITION, prompt=prompt, min_similarity=0.95)]


@case
async def retrieval_put_prompt(context: CallContext) -> Sequence[Message]:
    prompt = semantic_cache_pb2.PutPromptRequest(
        partition=PARTITION, entry_id="a", model=MODEL, prompt="What is the capital of France?"
    )
    prompt.lifetime.FromSeconds(60)
    return [prompt]


@case
async def retrieval_remove_prompts(context: CallContext) -> Sequence[Message]:
    return [semantic_cache_pb2.RemovePromptsRequest(model=MODEL)]
