"""GitHub's OpenAPI description as a judge of requests, answers and webhook payloads."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource

_BASE = "urn:github"
_TAKES_SLASHES = ("path", "basehead", "ref")
_ERROR = f"{_BASE}#/components/schemas/basic-error"
# An answer of any operation, though the description lists them only here and there.
_ANYWHERE = (400, 401, 403, 404, 410, 429, 500, 502, 503, 504)


class Operation(NamedTuple):
    method: str
    path: str
    """As the description writes it, with its {parameters}."""


class Description:
    def __init__(self, file: Path) -> None:
        self._document = json.loads(file.read_bytes(), object_hook=_as_meant)
        self._registry: Registry[Any] = Registry().with_resource(_BASE, Resource.opaque(self._document))
        self._paths = sorted(
            ((_pattern(path), path) for path in self._document["paths"]), key=lambda one: -len(_literal(one[1]))
        )

    def operation(self, method: str, path: str) -> Operation | None:
        """What a request is, None where GitHub has no such operation. A repository may be named by its id."""
        path = re.sub(r"^/repositories/\d+(?=/|$)", "/repos/owner/name", path)
        for pattern, template in self._paths:
            if pattern.fullmatch(path) and method.lower() in self._document["paths"][template]:
                return Operation(method.lower(), template)
        return None

    def request_faults(self, of: Operation, query: str, body: bytes) -> Iterator[str]:
        place = self._document["paths"][of.path][of.method]
        known = {one["name"]: one for one in map(self._followed, place.get("parameters", [])) if one["in"] == "query"}
        for name, text in parse_qsl(query, keep_blank_values=True):
            if name not in known:
                yield f"query parameter {name} is not described"
            else:
                yield from self._faults(known[name]["schema"], _typed(text))
        schema = f"{self._pointer(of)}/requestBody/content/application~1json/schema"
        described = place.get("requestBody", {}).get("content", {}).get("application/json")
        if body and described is None:
            yield "a body is sent where none is described"
        elif described is not None and (body or place["requestBody"].get("required")):
            sent = json.loads(body or b"null")
            yield from self._faults({"$ref": schema}, sent)
            names = self._followed(described["schema"]).get("properties", {})
            if names and isinstance(sent, dict):
                yield from (f"{name} is no described field" for name in sent if name not in names)

    def answer_faults(self, of: Operation, status: int, content: bytes) -> Iterator[str]:
        responses = self._document["paths"][of.path][of.method]["responses"]
        if str(status) not in responses:
            if status in _ANYWHERE:
                yield from self._faults({"$ref": _ERROR}, json.loads(content))
            else:
                yield f"status {status} is not described"
            return
        followed = self._followed(responses[str(status)])
        described = followed.get("content", {}).get("application/json")
        if described is not None:
            yield from self._faults(described["schema"], json.loads(content))
        elif content:
            yield f"status {status} has a body where none is described"

    def event_faults(self, event: str, payload: Mapping[str, Any]) -> Iterator[str]:
        action = payload.get("action")
        name = f"{event}-{action}".replace("_", "-") if isinstance(action, str) else event.replace("_", "-")
        described = self._document["x-webhooks"].get(name)
        if described is None:
            yield f"{name} is not described"
            return
        yield from self._faults(described["post"]["requestBody"]["content"]["application/json"]["schema"], payload)

    def _faults(self, schema: Mapping[str, Any], value: object) -> Iterator[str]:
        for error in self._validator(json.dumps(schema)).iter_errors(value):
            while error.context:
                error = min(error.context, key=lambda one: (len(list(one.context or [])), -len(one.absolute_path)))
            yield f"{error.json_path}: {error.message[:100]} … {error.message[-100:]}"

    @cache  # noqa: B019 - one description lives as long as the tests
    def _validator(self, schema: str) -> Any:
        absolute = json.loads(schema.replace('"#/', f'"{_BASE}#/'))
        return OAS30Validator(absolute, registry=self._registry, format_checker=oas30_format_checker)

    def _followed(self, one: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in one:
            found: Any = self._document
            for part in one["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            one = found
        return one

    @staticmethod
    def _pointer(of: Operation) -> str:
        return f"{_BASE}#/paths/{of.path.replace('~', '~0').replace('/', '~1')}/{of.method}"


def _as_meant(schema: dict[str, Any]) -> dict[str, Any]:
    """GitHub writes `nullable` beside enum and oneOf, and means it; OpenAPI 3.0.3 lets no null through there.

    A discriminator only tells tools what oneOf says already, and the one of `contents` names no property of its arrays.
    """
    schema = {name: value for name, value in schema.items() if name != "discriminator"}
    if schema.get("nullable") is not True or not schema.keys() & {"enum", "oneOf", "anyOf", "allOf"}:
        return schema
    return {"anyOf": [schema, {"enum": [None], "nullable": True}]}


def _literal(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "", path)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{([^}]+)\}", path)
    found = [
        re.escape(part) if at % 2 == 0 else (".+" if part in _TAKES_SLASHES and at == len(parts) - 2 else "[^/]+")
        for at, part in enumerate(parts)
    ]
    return re.compile("".join(found))


def _typed(text: str) -> object:
    text = unquote(text)
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isascii() and text.isdigit() else text
