"""A second stack beside an installation, touching nothing of it: to replay without posting, and to time."""

from pathlib import Path
from typing import Any, Final

from services.settings import InferenceSettings, Settings

_OWN: Final[dict[str, dict[str, Any]]] = {
    "stream": {"kind": "sqlite", "path": ""},
    "extractor": {"replicas": 1, "metrics_port": 0},
    "inference": {
        "replicas": 1,
        "bind": "127.0.0.1",
        "port": 0,
        "metrics_port": 0,
        "target": InferenceSettings.model_fields["target"].default,
    },
}


def beside(settings: Settings, folder: Path) -> Settings:
    """The same settings for an extractor and an inference server on free ports, over a log in `folder`.

    No other service may be started with them: a publisher would post.
    """
    own = {**_OWN, "project": {"state_dir": str(folder), "runtime": "embedded"}}
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=changed) for section, changed in own.items()}
    )
