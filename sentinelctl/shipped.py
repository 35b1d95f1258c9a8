"""What lies beside the packages in a checkout, and inside of `sentinelctl` in a wheel."""

from pathlib import Path

from sentinelctl.errors import SentinelError


def shipped(path: str) -> Path:
    """A file or folder, by its path in the repository. Raises SentinelError where the installation lacks it."""
    here = Path(__file__).parent
    for found in (here / path, here.parent / path):
        if found.exists():
            return found
    raise SentinelError(
        f"no {path} beside {here}", remedy="`pip install --force-reinstall sentinel-review` restores it"
    )
