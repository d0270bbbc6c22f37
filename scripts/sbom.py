"""Software bills of materials: one CycloneDX file per image, of the Python packages that its service needs.

    python -m scripts.sbom FOLDER [SERVICE...]

Versions and hashes are those of requirements.lock, which images install with hashes; which packages a service needs is
read from the metadata of the installed ones. The packages of the base image are its publisher's to list.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.helm_charts import SERVICES

ROOT = Path(__file__).resolve().parent.parent
OURS = "argosy-"
# Of the images, whatever machine writes the bill.
IMAGE = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
PINNED = re.compile(r"^([\w.-]+)==([^\s;\\]+)([^\n]*(?:\n    --hash=sha256:[0-9a-f]{64}[^\n]*)+)", re.MULTILINE)


@cache
def locked() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return version and SHA-256 hashes of each package in requirements.lock."""
    text = (ROOT / "requirements.lock").read_text()
    return {
        canonicalize_name(match[1]): (match[2], tuple(re.findall(r"sha256:([0-9a-f]{64})", match[3])))
        for match in PINNED.finditer(text)
    }


def needed_by(name: str) -> dict[str, frozenset[str]]:
    """Return all packages that one needs, itself among them, each with those that it needs directly.

    Raises LookupError for a package that is not installed.
    """
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), "")]
    while waiting:
        package, extra = waiting.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        direct = found.setdefault(package, set())
        for requirement in _requirements(package, extra):
            required = canonicalize_name(requirement.name)
            if required != package:
                direct.add(required)
            waiting += [(required, ""), *((required, one) for one in requirement.extras)]
    return {package: frozenset(direct) for package, direct in found.items()}


def bill(service: str) -> Bom:
    """Return the bill of a service's image."""
    root = f"{OURS}{service}"
    needs = needed_by(root)
    components = {package: _component(package) for package in needs}
    bom = Bom(components=[one for package, one in components.items() if package != root])
    bom.metadata.component = components[root]
    for package, direct in needs.items():
        bom.register_dependency(components[package], [components[one] for one in sorted(direct)])
    return bom


def write(folder: Path, services: tuple[str, ...] = SERVICES) -> list[Path]:
    """Write `<service>.cdx.json` for each service, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for service in services:
        file = folder / f"{service}.cdx.json"
        file.write_text(JsonV1Dot6(bill(service)).output_as_string(indent=2) + "\n")
        files.append(file)
    return files


def _requirements(package: str, extra: str) -> Iterator[Requirement]:
    """Yield what a package needs for an extra; for none, what it needs anyway."""
    for text in _installed(package).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({**IMAGE, "extra": extra}) and not (
            extra and requirement.marker.evaluate({**IMAGE, "extra": ""})
        ):
            yield requirement


def _installed(package: str) -> Distribution:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise LookupError(f"{package} is not installed: make setup") from None


def _component(package: str) -> Component:
    ours = package.startswith(OURS)
    version, hashes = (_installed(package).version, ()) if ours else locked()[package]
    url = None if ours else PackageURL("pypi", None, package, version)
    return Component(
        name=package,
        version=version,
        type=ComponentType.APPLICATION if ours else ComponentType.LIBRARY,
        bom_ref=f"{package}@{version}",
        purl=url,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in hashes],
        licenses=[LicenseFactory().make_from_string(text) for text in _licenses(package)],
    )


def _licenses(package: str) -> list[str]:
    """Return expression, classifier or name of a package's license; at most one: a bill must not mix them."""
    metadata = _installed(package).metadata
    expressions = metadata.get_all("License-Expression", [])
    classifiers = [one.split(" :: ")[-1] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
    named = [one for one in metadata.get_all("License", []) if len(one) < 80]  # of some packages it is the whole text
    return (expressions or classifiers or named)[:1]


def main(arguments: list[str]) -> int:
    if not arguments or any(service not in SERVICES for service in arguments[1:]):
        print(f"usage: python -m scripts.sbom FOLDER [SERVICE...], of {', '.join(SERVICES)}", file=sys.stderr)
        return 2
    for file in write(Path(arguments[0]), tuple(arguments[1:]) or SERVICES):
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
