"""The files of a fleet: `.argosy/` in the repository, or the folder in ARGOSY_HOME.

Downloaded and converted files (jars, models) are shared by all fleets of a clone: they stay in the repository's
`.argosy/`, or in ARGOSY_ASSETS.
"""

import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes of what a fleet writes: logs, state and data may quote prompts, and only the fleet's user reads them."""
PRIVATE_UMASK = 0o077
TRAVERSED_FOLDER = 0o711
"""Mode of a folder that another user must pass to reach a file below it, and cannot list."""
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
REPO_ROOT = Path(__file__).resolve().parents[4]


@dataclass(frozen=True, slots=True)
class FleetPaths:
    """The folders and files of one fleet."""

    root: Path
    assets: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read ARGOSY_HOME and ARGOSY_ASSETS; both default to `.argosy` in the repository."""
        env = os.environ if environment is None else environment
        return cls(
            root=Path(env.get("ARGOSY_HOME") or REPO_ROOT / ".argosy").absolute(),
            assets=Path(env.get("ARGOSY_ASSETS") or REPO_ROOT / ".argosy").absolute(),
        )

    @property
    def env(self) -> Path:
        """The addresses and API keys of the running fleet, readable by the owner alone."""
        return self.root / "env"

    @property
    def ports(self) -> Path:
        """The port of each part; written at the first start, may be edited."""
        return self.root / "ports"

    @property
    def secrets(self) -> Path:
        """Generated passwords and signing secrets, readable by the owner alone."""
        return self.root / "secrets"

    @property
    def desired(self) -> Path:
        """The desired state, written by `up`."""
        return self.root / "desired.json"

    @property
    def fleet(self) -> Path:
        """The actual state, written by the supervisor."""
        return self.root / "fleet.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def jars(self) -> Path:
        """Kafka's jars, as a Maven repository."""
        return self.assets / "jars"

    @property
    def minilm(self) -> Path:
        """The embedding model: a folder with `model.onnx` and `tokenizer.json`."""
        return self.assets / "models" / "minilm"

    @property
    def smollm_tokenizer(self) -> Path:
        return self.assets / "models" / "smollm2" / "tokenizer.json"

    def data(self, part: str) -> Path:
        return self.root / "data" / part

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Create the folders that every command expects, and take the access of others from what is there."""
        for folder in (self.root, self.logs, self.root / "data"):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            _make_private(folder)
        for path in (*self.root.iterdir(), *self.logs.iterdir()):
            if path.is_file():
                _make_private(path)

    def open_log(self, part: str) -> int:
        """Open the log of a part for appending and return the descriptor."""
        return os.open(self.log(part), APPEND, PRIVATE_FILE)

    def open_lock(self, name: str) -> IO[str]:
        """Open the file of a lock, for `flock`."""
        return os.fdopen(
            os.open(self.root / f"{name}.lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE), "w", encoding="ascii"
        )


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


def write_pairs(path: Path, pairs: Mapping[str, str], *, comment: str = "") -> None:
    """Replace `path` atomically by KEY=VALUE lines."""
    head = f"# {comment}\n" if comment else ""
    write_text(path, head + "".join(f"{key}={value}\n" for key, value in pairs.items()))


def write_text(path: Path, text: str) -> None:
    """Replace `path` atomically by `text`, readable by the owner alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(PRIVATE_FILE)
    Path(name).replace(path)


def _make_private(path: Path) -> None:
    """Take the access of group and others, except that a folder that others pass through stays passable."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and not (path.is_dir() and mode == TRAVERSED_FOLDER):
        path.chmod(mode & 0o700)
