"""Files in OpenAI's shape, and what an upload's form must have."""

import unicodedata
from typing import Final, Literal, get_args

from chassis.errors import InvalidRequest

from gateway.web.schemas import Resource

Purpose = Literal["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]
ListedPurpose = Literal[Purpose, "batch_output"]
"""Files that a batch has written cannot be uploaded, but listed."""
PURPOSES: Final = frozenset[str](get_args(Purpose))
MAX_FILENAME_CHARACTERS = 255
UPLOAD_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": sorted(PURPOSES)},
                    },
                }
            }
        },
    }
}


class FileRead(Resource):
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None


def check_filename(filename: str) -> str:
    """Return the last part of a path, as browsers do. Raises InvalidRequest when it is not a valid name."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not 1 <= len(name) <= MAX_FILENAME_CHARACTERS or any(unicodedata.category(char) == "Cc" for char in name):
        raise InvalidRequest(
            f"A filename must have 1 to {MAX_FILENAME_CHARACTERS} characters and no control characters.", param="file"
        )
    return name


def check_purpose(purpose: str | None) -> str:
    """Raises InvalidRequest."""
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(sorted(PURPOSES))}.", param="purpose")
    return purpose
