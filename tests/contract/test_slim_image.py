"""What is left out of the images."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from scripts.slim_image import AWS_APIS, main, strip_symbols

EXTENSION = next(Path(orjson.__file__).parent.glob("*.so"))


def test_a_library_without_its_symbols_is_smaller_and_still_loads(tmp_path: Path) -> None:
    shutil.copytree(EXTENSION.parent, tmp_path / "orjson")
    library = tmp_path / "orjson" / EXTENSION.name
    before = library.stat().st_size

    saved = strip_symbols(library)

    assert library.stat().st_size == before - saved < before
    program = "import orjson; print(orjson.__file__, orjson.dumps({'a': 1}).decode())"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == [str(tmp_path / "orjson" / "__init__.py"), '{"a":1}']


def test_a_library_is_stripped_once(tmp_path: Path) -> None:
    library = Path(shutil.copy(EXTENSION, tmp_path))
    strip_symbols(library)

    assert strip_symbols(library) == 0


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x01\x01 of another class", b"#!/bin/sh\n"])
def test_a_file_that_is_no_library_of_64_bits_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(content)

    assert strip_symbols(path) == 0
    assert path.read_bytes() == content


def test_of_aws_only_what_litellm_calls_is_kept(tmp_path: Path) -> None:
    for api in (*AWS_APIS, "ec2", "s3"):
        (tmp_path / "botocore/data" / api).mkdir(parents=True)
    (tmp_path / "botocore/data/endpoints.json").write_text("{}")

    main(tmp_path)

    assert sorted(path.name for path in (tmp_path / "botocore/data").iterdir()) == sorted([*AWS_APIS, "endpoints.json"])
