"""Remove from an image's packages what a service never loads: `python slim_image.py SITE_PACKAGES`.

Every removal is named here with its reason, and the build imports what is left. It uses the standard library alone,
since it runs while an image is built.
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

UNUSED = (
    "litellm/proxy/_experimental/out",  # the web pages of litellm's proxy
    "litellm/proxy/swagger",
    "litellm/proxy/_lazy_openapi_snapshot.json",
    "litellm/rust_bridge/_native*.so",  # optional: litellm's own loader goes on without it
    "onnxruntime/capi/libonnxruntime.so.*",  # for C programs; the Python extension has its own copy
    "onnxruntime/transformers",  # tools that convert models
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "numpy/distutils",
    "numpy/f2py",
    # tokenizers downloads with them; services read tokenizers from files.
    "hf_xet",
    "huggingface_hub",
    "fsspec",
    "**/tests",
    "**/*.c",
    "**/*.h",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pyi",
)
AWS_APIS = ("bedrock", "sts", "sso", "signin")
"""What litellm calls of AWS; botocore brings the descriptions of all its services."""
_ELF64_LITTLE = b"\x7fELF\x02\x01"


def remove_unused(packages: Path) -> None:
    for pattern in UNUSED:
        for path in sorted(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
    for api in packages.glob("botocore/data/*"):
        if api.is_dir() and not api.name.startswith(AWS_APIS):
            shutil.rmtree(api)


def strip_symbols(library: Path) -> int:
    """Cut off what follows the last loaded segment: symbols and debugging information. Return the bytes saved.

    The loader reads program headers alone, so the section headers may go with what they describe.
    """
    data = library.read_bytes()
    if data[:6] != _ELF64_LITTLE:
        return 0
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    end: int = headers + size * count
    for place in range(headers, end, size):
        _, _, offset, _, _, in_file = struct.unpack_from("<IIQQQQ", data, place)
        end = max(end, offset + in_file)
    if end >= len(data):
        return 0
    kept = bytearray(data[:end])
    struct.pack_into("<Q", kept, 40, 0)  # where section headers begin
    struct.pack_into("<HHH", kept, 58, 0, 0, 0)  # their size, number, and names
    library.write_bytes(kept)
    return len(data) - end


def main(packages: Path) -> None:
    remove_unused(packages)
    for library in packages.rglob("*.so*"):
        if library.is_file() and not library.is_symlink():
            strip_symbols(library)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
