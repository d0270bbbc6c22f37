"""For each method of each service a request that is answered well, and what has to be there before it is made."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

from argosy.common.v1 import common_pb2 as common
from argosy.identity.v1 import identity_pb2 as identity
from argosy.inference.v1 import inference_pb2 as inference
from argosy.metering.v1 import metering_pb2 as metering
from argosy.orchestration.v1 import orchestration_pb2 as orchestration
from argosy.retrieval.v1 import retrieval_pb2 as retrieval
from chassis.ids import new_id
from chassis.tenancy import Principal
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from tests.e2e.scenes import METHODS, Scene, upload

MODEL, UPSTREAM_MODEL = "sim-two-ways", "instant"
PRICE_KEY = f"simulator/{UPSTREAM_MODEL}"
EMBEDDING = "all-minilm-l6-v2"


def chat(model: str) -> bytes:
    """The body of a chat completion."""
    words = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Say it both ways."}]}
    return json.dumps(words).encode()


Case = Callable[[Scene], Awaitable[Sequence[Message]]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register the case of the method whose name the function has, in words."""
    name = function.__name__.replace("_", "").lower()
    (path,) = (path for path in METHODS if path.split("/")[1].split(".")[1] + path.rpartition("/")[2].lower() == name)
    CASES[path] = function
    return function


@case
async def identity_who_am_i(scene: Scene) -> Sequence[Message]:
    return [identity.WhoAmIRequest()]


@case
async def identity_get_tenant(scene: Scene) -> Sequence[Message]:
    scene.principal = Principal(scene.library.tenant_id)
    return [identity.GetTenantRequest()]


@case
async def orchestration_generate(scene: Scene) -> Sequence[Message]:
    wanted = orchestration.GenerateRequest(request_id=new_id("req_"), model=MODEL, body=chat(MODEL), stream=True)
    return [wanted]


@case
async def orchestration_embed(scene: Scene) -> Sequence[Message]:
    return [orchestration.EmbedRequest(request_id=new_id("req_"), model=EMBEDDING, inputs=["one", "the other"])]


@case
async def orchestration_list_models(scene: Scene) -> Sequence[Message]:
    return [orchestration.ListModelsRequest()]


@case
async def inference_infer(scene: Scene) -> Sequence[Message]:
    candidate = inference.Candidate(upstream="simulator", model=UPSTREAM_MODEL, body=chat(UPSTREAM_MODEL))
    plan = inference.Plan(candidates=[candidate], stream=True)
    return [inference.InferRequest(run=inference.Run(request_id=new_id("req_"), plan=plan))]


@case
async def inference_embed(scene: Scene) -> Sequence[Message]:
    candidates = [inference.Candidate(upstream="minilm", model=EMBEDDING)]
    return [inference.EmbedRequest(request_id=new_id("req_"), candidates=candidates, inputs=["one", "the other"])]


@case
async def metering_reserve(scene: Scene) -> Sequence[Message]:
    bounds = [metering.Bound(price_key=PRICE_KEY, input_tokens=1_000, output_tokens=200)]
    lease = Duration(seconds=5)  # nobody settles it
    return [metering.ReserveRequest(request_id=new_id("req_"), bounds=bounds, lease=lease)]


@case
async def metering_get_request(scene: Scene) -> Sequence[Message]:
    (reserve,) = await metering_reserve(scene)
    await scene.ask("Reserve", reserve)
    return [metering.GetRequestStatementRequest(request_id=reserve.request_id)]  # type: ignore[attr-defined]


@case
async def metering_get_usage(scene: Scene) -> Sequence[Message]:
    scene.principal = scene.library.principal  # it has embedded its file, and nothing more is on the way
    return [metering.GetUsageRequest(by_day=True)]


@case
async def metering_get_budget(scene: Scene) -> Sequence[Message]:
    await scene.ask("Reserve", *await metering_reserve(scene))
    return [metering.GetBudgetRequest()]


@case
async def metering_set_budget(scene: Scene) -> Sequence[Message]:
    scene.principal = Principal(scene.principal.tenant_id, roles=frozenset({"admin"}))
    return [metering.SetBudgetRequest(cap=common.Money(nano_usd=7_000_000_001))]


@case
async def metering_list_prices(scene: Scene) -> Sequence[Message]:
    return [metering.ListPricesRequest()]


@case
async def metering_set_price(scene: Scene) -> Sequence[Message]:
    scene.principal = Principal(scene.principal.tenant_id, roles=frozenset({"admin"}))
    price = metering.Price(price_key="simulator/two-ways")
    price.input_per_million.nano_usd, price.output_per_million.nano_usd = 3, 5
    return [metering.SetPriceRequest(price=price)]


@case
async def retrieval_upload_file(scene: Scene) -> Sequence[Message]:
    return upload("two-ways.txt")


@case
async def retrieval_list_files(scene: Scene) -> Sequence[Message]:
    await scene.a_file("first.txt")
    await scene.a_file("second.txt")
    return [retrieval.ListFilesRequest(limit=1)]


@case
async def retrieval_get_file(scene: Scene) -> Sequence[Message]:
    return [retrieval.GetFileRequest(file_id=await scene.a_file())]


@case
async def retrieval_download_file(scene: Scene) -> Sequence[Message]:
    return [retrieval.DownloadFileRequest(file_id=await scene.a_file())]


@case
async def retrieval_delete_file(scene: Scene) -> Sequence[Message]:
    return [retrieval.DeleteFileRequest(file_id=await scene.a_file())]


@case
async def retrieval_create_vector_store(scene: Scene) -> Sequence[Message]:
    return [retrieval.CreateVectorStoreRequest(name="two ways")]


@case
async def retrieval_list_vector_stores(scene: Scene) -> Sequence[Message]:
    await scene.a_store()
    await scene.a_store()
    return [retrieval.ListVectorStoresRequest(limit=1)]


@case
async def retrieval_get_vector_store(scene: Scene) -> Sequence[Message]:
    return [retrieval.GetVectorStoreRequest(vector_store_id=await scene.a_store())]


@case
async def retrieval_delete_vector_store(scene: Scene) -> Sequence[Message]:
    return [retrieval.DeleteVectorStoreRequest(vector_store_id=await scene.a_store())]


@case
async def retrieval_attach_file(scene: Scene) -> Sequence[Message]:
    scene.principal = scene.library.principal  # once more, which changes nothing
    return [retrieval.AttachFileRequest(vector_store_id=scene.library.store_id, file_id=scene.library.file_id)]


@case
async def retrieval_get_attachment(scene: Scene) -> Sequence[Message]:
    scene.principal = scene.library.principal
    return [retrieval.GetAttachmentRequest(vector_store_id=scene.library.store_id, file_id=scene.library.file_id)]


@case
async def retrieval_list_attachments(scene: Scene) -> Sequence[Message]:
    scene.principal = scene.library.principal
    return [retrieval.ListAttachmentsRequest(vector_store_id=scene.library.store_id)]


@case
async def retrieval_detach_file(scene: Scene) -> Sequence[Message]:
    file_id = await scene.a_file()
    return [retrieval.DetachFileRequest(vector_store_id=await scene.a_store(file_id), file_id=file_id)]


@case
async def retrieval_search(scene: Scene) -> Sequence[Message]:
    scene.principal = scene.library.principal
    return [retrieval.SearchRequest(vector_store_ids=[scene.library.store_id], query="Who repaired the lamp?")]
