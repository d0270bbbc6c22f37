"""`/v1/models`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.inference.model import InferenceClient, ModelNotFound
from gateway.models.schemas import ModelRead
from gateway.web.dependencies import provided
from gateway.web.schemas import ListResponse

router = APIRouter(prefix="/v1/models", tags=["Models"])

Inference = Annotated[InferenceClient, Depends(provided(InferenceClient))]


@router.get("")
async def list_models(inference: Inference) -> ListResponse[ModelRead]:
    """List the models that the tenant may use."""
    return ListResponse.of(map(ModelRead.of, await inference.list_models()))


@router.get("/{model_id:path}")
async def get_model(model_id: str, inference: Inference) -> ModelRead:
    """Read one model."""
    for model in await inference.list_models():
        if model.name == model_id:
            return ModelRead.of(model)
    raise ModelNotFound(f"The model {model_id!r} does not exist.", param="model")
