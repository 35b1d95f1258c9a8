"""`sentinel.toml` as text with every key explained, and where each value in force comes from."""

import difflib
import os
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services.contract import Variable
from services.settings import DEFAULT_CONFIG, Settings, secret_keys, sections, variable

_WIDTH = 100
_HEADER = """\
# Settings of Sentinel: every key with its default. `sentinelctl config validate` checks this file,
# `sentinelctl config show` says what is in force and where it comes from.
#
# SENTINEL_<SECTION>_<KEY> in the environment overrides a key. Secrets have no place in here: they come from their
# variable, or from the file that the variable with _FILE behind it names.
"""


class Source(StrEnum):
    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting in force. The value of a secret is `set` or `not set`."""

    section: str
    key: str
    value: Any
    source: Source
    is_secret: bool


def render() -> str:
    """The documented file; loading it gives the defaults."""
    parts = [_HEADER]
    hidden = set(secret_keys())
    for section, model in sections().items():
        parts.append(f"\n[{section}]\n")
        for key, field in model.model_fields.items():
            parts.append(_comment(_explained(field)))
            if (section, key) in hidden:
                parts.append(f"# A secret: {variable(section, key)} or {variable(section, key)}_FILE\n")
            else:
                parts.append(f"{key} = {_toml(field.default)}\n")
    return "".join(parts)


def config_path(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The settings file in force, there or not."""
    return given or (Path(environ[Variable.CONFIG]) if environ.get(Variable.CONFIG) else DEFAULT_CONFIG)


def effective(settings: Settings, path: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Effective]:
    """Every setting, in the order of the file. `settings` were loaded from `path` and `environ`."""
    document = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    hidden = set(secret_keys())
    for section, model in sections().items():
        for key in model.model_fields:
            is_secret = (section, key) in hidden
            value = getattr(getattr(settings, section), key)
            name = variable(section, key)
            if name in environ or (is_secret and f"{name}_FILE" in environ):
                source = Source.ENVIRONMENT
            else:
                source = Source.FILE if key in document.get(section, {}) else Source.DEFAULT
            yield Effective(section, key, _shown(value), source, is_secret)


def unread(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that look like settings and are none, each with the one that may be meant. Values are not shown."""
    settings = [variable(section, key) for section, model in sections().items() for key in model.model_fields]
    settings += [f"{variable(*key)}_FILE" for key in secret_keys()]
    known = {*settings, Variable.CONFIG, Variable.REPLICA}
    found = []
    for name in sorted(name for name in environ if name.startswith("SENTINEL_") and name not in known):
        near = difflib.get_close_matches(name, settings, 1, cutoff=0.85)
        found.append(f"{name} is no setting" + (f"; is {near[0]} meant?" if near else ""))
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "set" if value.get_secret_value() else "not set"
    return list(value) if isinstance(value, tuple) else value


def _explained(field: FieldInfo) -> str:
    """Its description, and what it may be where its type or its bounds say so."""
    text = field.description or ""
    choices = _choices(field.annotation)
    if len(choices) > 1 and not all(choice in text for choice in choices):
        text += f"; one of {', '.join(choices)}"
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(rule, name)
    ]
    return text + (f" ({', '.join(bounds)})" if bounds else "")


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, _WIDTH))


def _toml(value: Any) -> str:
    """A default as TOML: bool, int, float, str, or a tuple of them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
