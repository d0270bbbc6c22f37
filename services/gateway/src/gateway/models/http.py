"""`/v1/models`."""

from fastapi import APIRouter

from gateway.domain.inference import ModelNotFound

from .ports import InferencePort
from .schemas import ListOf, ModelRead

router = APIRouter(prefix="/v1/models", tags=["Models"])


@router.get("")
async def list_models(inference: InferencePort) -> ListOf[ModelRead]:
    """List the models that the tenant may use."""
    return ListOf.of(ModelRead.of(model) for model in await inference.list_models())


@router.get("/{model_id:path}")
async def get_model(model_id: str, inference: InferencePort) -> ModelRead:
    """Read one model."""
    for model in await inference.list_models():
        if model.name == model_id:
            return ModelRead.of(model)
    raise ModelNotFound(f"The model {model_id!r} does not exist.", param="model")
