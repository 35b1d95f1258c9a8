"""The dashboard as a TypeScript program that compiles where Grafana's own types take each part of it."""

import fcntl
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA, COMPILER = "@grafana/schema@11.6.7", "typescript@5.9.3"
_CACHE = Path(__file__).parents[2] / ".cache" / "grafana"
_RAW = "./node_modules/@grafana/schema/dist/esm/raw"
_PANELS = {
    "stat": "StatPanelCfg",
    "timeseries": "TimeSeriesPanelCfg",
    "heatmap": "HeatmapPanelCfg",
    "table": "TablePanelCfg",
}
_OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext")
_OPTIONS += ("--moduleResolution", "bundler")  # fmt: skip


class NoNpm(Exception):
    """The message says what is missing."""


def faults(dashboard: Mapping[str, Any]) -> list[str]:
    """What Grafana's types refuse, one a line. Raises NoNpm."""
    material = _fetch()
    with tempfile.TemporaryDirectory(dir=material) as name:
        folder = Path(name)
        (folder / "node_modules").symlink_to(material / "node_modules")
        (folder / "check.ts").write_text("\n".join(_program(dashboard)) + "\n")
        compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
        done = subprocess.run(
            ["node", str(compiler), *_OPTIONS, "--preserveSymlinks", "check.ts"],
            cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.startswith("check.ts")] or done.stderr.splitlines()


def _program(dashboard: Mapping[str, Any]) -> Iterator[str]:
    yield f"import type {{ Dashboard, Panel, RowPanel }} from '{_RAW}/dashboard/x/dashboard_types.gen';"
    for kind in ("Stat", "TimeSeries", "Heatmap", "Table"):
        module = f"{_RAW}/composable/{kind.lower()}/panelcfg/x/{kind}PanelCfg_types.gen"
        yield f"import type * as {kind.lower()} from '{module}';"
    # The schema's enumerations are TypeScript's, to which the words that stand in JSON are not assignable.
    yield "type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T"
    yield "  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;"
    yield _claim({**dashboard, "panels": []}, "Dashboard")
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield _claim(panel, "RowPanel")
            continue
        kind = panel["type"]
        yield _claim({key: value for key, value in panel.items() if key != "options"}, "Panel")
        yield _claim(panel["options"], f"{kind}.Options")
        if "custom" in panel["fieldConfig"]["defaults"]:
            yield _claim(panel["fieldConfig"]["defaults"]["custom"], f"{kind}.FieldConfig")


def _claim(value: Mapping[str, Any], kind: str) -> str:
    return f"({json.dumps(value)}) satisfies Plain<{kind}>;"


def _fetch() -> Path:
    """From the cache, or from npm at pinned versions; nothing of it is committed."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        raise NoNpm(f"{' and '.join(missing)} not on PATH, so Grafana's schema cannot be had: apt-get install npm")
    folder = _CACHE / "+".join(name.rpartition("@")[2] for name in (SCHEMA, COMPILER))
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=_CACHE) as name:
                (Path(name) / "package.json").write_text('{"private": true}\n')
                words = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", SCHEMA, COMPILER)
                subprocess.run(["npm", *words], cwd=name, check=True, timeout=150, stdout=subprocess.DEVNULL)
                Path(name).rename(folder)
                Path(name).mkdir()  # for TemporaryDirectory to remove
    return folder
