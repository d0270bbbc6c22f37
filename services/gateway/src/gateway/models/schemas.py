"""Models in OpenAI's shape."""

from typing import Literal, Self

from gateway.inference.model import Model, Task
from gateway.web.schemas import Resource, unix_seconds


class ModelRead(Resource):
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["argosy"] = "argosy"
    task: Task | None = None

    @classmethod
    def of(cls, model: Model) -> Self:
        return cls(id=model.name, created=unix_seconds(model.created_at), task=model.task)
