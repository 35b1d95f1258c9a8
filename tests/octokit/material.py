"""GitHub's own material, from npm at pinned versions into a folder that git ignores: nothing of it is committed."""

import fcntl
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

OPENAPI, EXAMPLES, REST = "@octokit/openapi@23.0.2", "@octokit/webhooks-examples@7.6.1", "@octokit/rest@22.0.1"
_CACHE = Path(__file__).parents[2] / ".cache" / "octokit"
_DESCRIPTION = "api.github.com.json"
_EVENTS = "node_modules/@octokit/webhooks-examples/api.github.com/index.json"


class NoNpm(Exception):
    """The message says what is missing."""


class Material:
    """`folder` has node_modules with @octokit/rest; the two files are GitHub's REST description and event examples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = folder / _DESCRIPTION
        self.examples = folder / _EVENTS


def fetch() -> Material:
    """From the cache, or from npm, which takes some seconds. Raises NoNpm, and CalledProcessError when npm fails."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        raise NoNpm(f"{' and '.join(missing)} not on PATH, so GitHub's own material cannot be had: apt-get install npm")
    versions = "+".join(name.rpartition("/")[2] for name in (OPENAPI, EXAMPLES, REST))
    folder = _CACHE / versions
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=_CACHE) as name:
                _download(Path(name))
                Path(name).rename(folder)
                Path(name).mkdir()  # for TemporaryDirectory to remove
    return Material(folder)


def _download(folder: Path) -> None:
    """Of the description, which comes unfolded and in every edition (400 MB), only the one file that is used."""
    (folder / "package.json").write_text('{"private": true}\n')
    _npm(folder, "install", "--ignore-scripts", "--no-audit", "--no-fund", EXAMPLES, REST)
    _npm(folder, "pack", OPENAPI)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        found = packed.extractfile(f"package/generated/{_DESCRIPTION}")
        assert found is not None
        (folder / _DESCRIPTION).write_bytes(found.read())
    archive.unlink()


def _npm(folder: Path, *arguments: str) -> None:
    subprocess.run(["npm", *arguments, "--silent"], cwd=folder, check=True, timeout=150, stdout=subprocess.DEVNULL)
