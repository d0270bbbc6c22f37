"""Where the fleet of this clone keeps what it knows: `.argosy/`, or the folder that ARGOSY_HOME names.

Downloaded and converted files (jars, models) are an installation, not state: they stay in the clone's
`.argosy/` (or ARGOSY_ASSETS), so that a second fleet of the same clone shares them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Home:
    """The folders and files of one fleet."""

    root: Path
    assets: Path

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> Home:
        """Read ARGOSY_HOME and ARGOSY_ASSETS; both default to `.argosy` in the clone."""
        env = os.environ if environment is None else environment
        return cls(
            root=Path(env.get("ARGOSY_HOME") or CLONE / ".argosy").absolute(),
            assets=Path(env.get("ARGOSY_ASSETS") or CLONE / ".argosy").absolute(),
        )

    @property
    def env(self) -> Path:
        """The contract for people and tools: addresses and keys, readable by the owner alone."""
        return self.root / "env"

    @property
    def ports(self) -> Path:
        """Which part listens where; written at the first start, yours to edit."""
        return self.root / "ports"

    @property
    def secrets(self) -> Path:
        """Generated passwords and signing secrets, readable by the owner alone."""
        return self.root / "secrets"

    @property
    def wanted(self) -> Path:
        """What `up` asked the supervisor for."""
        return self.root / "wanted.json"

    @property
    def fleet(self) -> Path:
        """What the supervisor last knew about each part."""
        return self.root / "fleet.json"

    @property
    def logs(self) -> Path:
        """One file per part."""
        return self.root / "logs"

    @property
    def jars(self) -> Path:
        """Kafka's jars, as a Maven repository."""
        return self.assets / "jars"

    @property
    def models(self) -> Path:
        """Converted models and tokenizers."""
        return self.assets / "models"

    @property
    def minilm(self) -> Path:
        """The folder of the embedding model: `model.onnx` and `tokenizer.json`."""
        return self.models / "minilm"

    @property
    def smollm_tokenizer(self) -> Path:
        """The language model's tokenizer."""
        return self.models / "smollm2" / "tokenizer.json"

    def data(self, part: str) -> Path:
        """The folder in which `part` keeps its data."""
        return self.root / "data" / part

    def log(self, part: str) -> Path:
        """The file that receives everything `part` prints."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the folders that every command expects."""
        for folder in (self.root, self.logs, self.root / "data"):
            folder.mkdir(parents=True, exist_ok=True)


def read_pairs(path: Path) -> dict[str, str]:
    """Read KEY=VALUE lines; empty lines and # comments are skipped, a missing file is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    pairs = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            pairs[key.strip()] = value.strip()
    return pairs


def write_pairs(path: Path, pairs: Mapping[str, str], *, comment: str = "", mode: int = 0o600) -> None:
    """Replace `path` by KEY=VALUE lines at once, so that a reader sees the old file or the new one."""
    head = f"# {comment}\n" if comment else ""
    write_text(path, head + "".join(f"{key}={value}\n" for key, value in pairs.items()), mode=mode)


def write_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace `path` by `text` at once."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(mode)
    Path(name).replace(path)
