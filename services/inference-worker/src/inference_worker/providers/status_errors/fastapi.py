"""FastAPI's `detail`: a text, an object, or pydantic's list of what is wrong with the body."""

from typing import Any

from inference_worker.providers.status_errors import openai
from inference_worker.providers.status_errors.fields import as_object, as_param, as_text
from inference_worker.providers.status_errors.model import ErrorFields, RefusalKind


def read(document: dict[str, Any]) -> ErrorFields | None:
    """Read `{"detail": …}`. None for other shapes."""
    detail = document.get("detail")
    if isinstance(detail, str) and detail:
        return ErrorFields(detail)
    if isinstance(detail, dict):
        return openai.read(detail if "error" in detail else {"error": detail})
    if isinstance(detail, list) and detail:
        return _validation(as_object(detail[0]))
    return None


def _validation(problem: dict[str, Any]) -> ErrorFields:
    location = problem.get("loc")
    param = as_param(_path(location)) if isinstance(location, list) else None
    message = as_text(problem.get("msg")) or as_text(problem.get("message"))
    extra = problem.get("type") in {"extra_forbidden", "value_error.extra"}
    kind = RefusalKind.UNSUPPORTED_PARAMETER if extra else None
    return ErrorFields(f"{param}: {message}" if param and message else message, param, kind=kind)


def _path(location: list[object]) -> str:
    """Write `["body", "messages", 0, "content"]` as `messages[0].content`."""
    path = ""
    for part in location[1:] if location and location[0] == "body" else location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else str(part)
    return path
