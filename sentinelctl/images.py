"""Our own images as data: what goes into each, its name, and the context that the engine builds it from.

The name holds a digest of the context, so an edit gives another name, and what runs an older one is seen to differ.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sentinelctl import __version__
from sentinelctl.errors import SentinelError
from sentinelctl.shipped import shipped

_EVERYWHERE: Final = (
    "crc32c", "kafka-python", "msgspec", "prometheus-client", "protobuf", "pydantic", "redis", "stamina", "structlog",
    "uvloop",
)  # fmt: skip
_OF_AUTOSCALER: Final = ("autoscaler", "contract", "counts", "disk", "errors", "settings", "stream", "telemetry")
_NOT_SHIPPED: Final = ("__pycache__", ".pyc", ".safetensors", ".md", ".proto")


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    requirements: tuple[str, ...]
    """Distributions, of those that pyproject.toml names with their versions."""
    sources: tuple[str, ...]
    """Packages and modules, by import name."""

    @property
    def dockerfile(self) -> Path:
        return shipped(f"compose/images/{self.name}.Dockerfile")


IMAGES: Final = {
    image.name: image
    for image in (
        Image(
            "services",
            (*_EVERYWHERE, "fastapi", "grpcio", "httptools", "httpx2", "pyjwt", "uvicorn"),
            ("services", "sentinel", "model.inputs"),
        ),
        Image(
            "autoscaler",
            (*_EVERYWHERE, "docker", "httpx2"),
            tuple(f"services.{name}" for name in _OF_AUTOSCALER),
        ),
        Image(
            "inference",
            (*_EVERYWHERE, "grpcio", "grpcio-health-checking", "grpcio-reflection", "numpy", "onnxruntime",
             "sentencepiece"),
            ("services", "sentinel", "model.inputs", "model.engine", "model.labels", "model.rules", "model.concepts",
             "model.weights"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Built:
    """An image of ours as it would be built from here."""

    name: str
    reference: str
    files: tuple[tuple[str, bytes], ...]

    @property
    def tag(self) -> str:
        """Of what `build` made last, whatever its sources: what a compose file can name."""
        return f"sentinel-{self.name}:{__version__}"

    def context(self) -> io.BytesIO:
        """A tar archive; the same bytes for the same files."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in self.files:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        archive.seek(0)
        return archive


@cache
def built(name: str, base: str, *also: str) -> Built:
    """`base`: the image it is built on; `also`: further distributions, such as the torch of the TorchScript engine.

    Raises SentinelError where the installation lacks the Dockerfiles.
    """
    image = replace(IMAGES[name], requirements=(*IMAGES[name].requirements, *also))
    files = dict(_sources(image))
    files["requirements.txt"] = "".join(f"{line}\n" for line in _requirements(image)).encode()
    files["probe.py"] = shipped("compose/images/probe.py").read_bytes()
    files["Dockerfile"] = image.dockerfile.read_bytes()
    digest = hashlib.sha256(base.encode())
    for path, content in sorted(files.items()):
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    found = Built(name, "", tuple(sorted(files.items())))
    return replace(found, reference=f"{found.tag}-{digest.hexdigest()[:12]}")


def _requirements(image: Image) -> Iterator[str]:
    wanted = set(image.requirements)
    for line in sorted(requires("sentinel-review") or ()):
        requirement = line.partition(";")[0].strip()
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
        if name in wanted:
            wanted.discard(name)
            yield requirement
    if wanted:
        raise SentinelError(
            f"the installed package does not ask for {', '.join(sorted(wanted))}",
            remedy="install it again: `pip install --editable .` in a checkout",
        )


def _sources(image: Image) -> Iterator[tuple[str, bytes]]:
    """The modules as files below app/, each package with the __init__.py of those around it."""
    for name in image.sources:
        package, _, inner = name.partition(".")
        found = find_spec(package)
        assert found is not None
        assert found.submodule_search_locations is not None
        root = Path(next(iter(found.submodule_search_locations)))
        if inner:
            yield f"app/{package}/__init__.py", (root / "__init__.py").read_bytes()
        # model.engine is a file, model.concepts one with another suffix, model.weights a folder.
        chosen = [root] if not inner else sorted(root.glob(f"{inner}*"))
        for top in chosen:
            if inner and top.name.partition(".")[0] != inner:
                continue
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.is_file() and not any(part in str(path) for part in _NOT_SHIPPED):
                    yield f"app/{package}/{path.relative_to(root).as_posix()}", path.read_bytes()
