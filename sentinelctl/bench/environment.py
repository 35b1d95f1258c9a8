"""The machine, the code and the model that a result belongs to, as far as they can be told without asking anybody."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

from model.engine import ModelError, read_manifest
from sentinelctl import __version__
from sentinelctl.bench import STORED
from services.settings import Settings

_ROOT: Final = Path(__file__).parents[2]


def environment(settings: Settings) -> dict[str, Any]:
    """load_1m: processes that wanted a core in the minute before; a quiet machine has less than its cores."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "python": platform.python_version(),
        "sentinel": __version__,
        "revision": revision(_ROOT),
        "model": _model(settings),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def revision(folder: Path) -> str:
    """The commit that is checked out, with a + where files differ from it; empty where `folder` is no checkout.

    Stored results do not count: a measurement before this one has just written some.
    """
    if not (folder / ".git").exists():
        return ""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False).stdout

    try:
        changed = git("status", "--porcelain", "--", ".", f":(exclude){STORED}")
        return git("rev-parse", "HEAD").strip()[:12] + ("+" if changed.strip() else "")
    except FileNotFoundError:
        return ""


def _model(settings: Settings) -> dict[str, str]:
    own = settings.inference
    try:
        manifest = read_manifest(Path(own.weights).expanduser() if own.weights else None)
    except ModelError as exc:
        return {"fault": str(exc)}
    return {"name": manifest.name, "version": manifest.version, "digest": manifest.digest, "engine": own.engine}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
