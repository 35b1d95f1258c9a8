from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChunkRequest(_message.Message):
    __slots__ = ("repo", "commit", "filename", "patch", "idempotency_key", "received_at", "chunk_index")
    REPO_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_INDEX_FIELD_NUMBER: _ClassVar[int]
    repo: str
    commit: str
    filename: str
    patch: str
    idempotency_key: str
    received_at: float
    chunk_index: int
    def __init__(self, repo: _Optional[str] = ..., commit: _Optional[str] = ..., filename: _Optional[str] = ..., patch: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., received_at: _Optional[float] = ..., chunk_index: _Optional[int] = ...) -> None: ...

class ReviewResponse(_message.Message):
    __slots__ = ("repo", "commit", "filename", "line", "severity", "severity_id", "category", "message", "confidence", "idempotency_key", "received_at", "findings", "model", "forward_s")
    REPO_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FORWARD_S_FIELD_NUMBER: _ClassVar[int]
    repo: str
    commit: str
    filename: str
    line: int
    severity: str
    severity_id: int
    category: str
    message: str
    confidence: float
    idempotency_key: str
    received_at: float
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    model: Model
    forward_s: float
    def __init__(self, repo: _Optional[str] = ..., commit: _Optional[str] = ..., filename: _Optional[str] = ..., line: _Optional[int] = ..., severity: _Optional[str] = ..., severity_id: _Optional[int] = ..., category: _Optional[str] = ..., message: _Optional[str] = ..., confidence: _Optional[float] = ..., idempotency_key: _Optional[str] = ..., received_at: _Optional[float] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., forward_s: _Optional[float] = ...) -> None: ...

class ReviewChunksRequest(_message.Message):
    __slots__ = ("repository_id", "commit_sha", "hunks")
    REPOSITORY_ID_FIELD_NUMBER: _ClassVar[int]
    COMMIT_SHA_FIELD_NUMBER: _ClassVar[int]
    HUNKS_FIELD_NUMBER: _ClassVar[int]
    repository_id: int
    commit_sha: str
    hunks: _containers.RepeatedCompositeFieldContainer[Hunk]
    def __init__(self, repository_id: _Optional[int] = ..., commit_sha: _Optional[str] = ..., hunks: _Optional[_Iterable[_Union[Hunk, _Mapping]]] = ...) -> None: ...

class ReviewChunksResponse(_message.Message):
    __slots__ = ("findings", "model", "skipped", "queue_s", "forward_s", "hunks")
    class SkippedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    FORWARD_S_FIELD_NUMBER: _ClassVar[int]
    HUNKS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    model: Model
    skipped: _containers.ScalarMap[str, int]
    queue_s: float
    forward_s: float
    hunks: _containers.RepeatedCompositeFieldContainer[ReadHunk]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., skipped: _Optional[_Mapping[str, int]] = ..., queue_s: _Optional[float] = ..., forward_s: _Optional[float] = ..., hunks: _Optional[_Iterable[_Union[ReadHunk, _Mapping]]] = ...) -> None: ...

class ReadHunk(_message.Message):
    __slots__ = ("chunks", "skipped")
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    chunks: int
    skipped: str
    def __init__(self, chunks: _Optional[int] = ..., skipped: _Optional[str] = ...) -> None: ...

class KeptChunk(_message.Message):
    __slots__ = ("model_digest", "file_digest", "file_chunks", "findings", "skipped")
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FILE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FILE_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    model_digest: str
    file_digest: bytes
    file_chunks: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    skipped: str
    def __init__(self, model_digest: _Optional[str] = ..., file_digest: _Optional[bytes] = ..., file_chunks: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., skipped: _Optional[str] = ...) -> None: ...

class Hunk(_message.Message):
    __slots__ = ("path", "old_start", "old_lines", "new_start", "new_lines", "section", "lines")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OLD_START_FIELD_NUMBER: _ClassVar[int]
    OLD_LINES_FIELD_NUMBER: _ClassVar[int]
    NEW_START_FIELD_NUMBER: _ClassVar[int]
    NEW_LINES_FIELD_NUMBER: _ClassVar[int]
    SECTION_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    path: str
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    section: str
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    def __init__(self, path: _Optional[str] = ..., old_start: _Optional[int] = ..., old_lines: _Optional[int] = ..., new_start: _Optional[int] = ..., new_lines: _Optional[int] = ..., section: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("kind", "text")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Line.Kind]
        KIND_CONTEXT: _ClassVar[Line.Kind]
        KIND_ADDED: _ClassVar[Line.Kind]
        KIND_DELETED: _ClassVar[Line.Kind]
    KIND_UNSPECIFIED: Line.Kind
    KIND_CONTEXT: Line.Kind
    KIND_ADDED: Line.Kind
    KIND_DELETED: Line.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: Line.Kind
    text: str
    def __init__(self, kind: _Optional[_Union[Line.Kind, str]] = ..., text: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("path", "line", "side", "concept", "title", "text", "category", "severity", "confidence", "is_shown", "chunk_index")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    IS_SHOWN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_INDEX_FIELD_NUMBER: _ClassVar[int]
    path: str
    line: int
    side: str
    concept: str
    title: str
    text: str
    category: str
    severity: str
    confidence: float
    is_shown: bool
    chunk_index: int
    def __init__(self, path: _Optional[str] = ..., line: _Optional[int] = ..., side: _Optional[str] = ..., concept: _Optional[str] = ..., title: _Optional[str] = ..., text: _Optional[str] = ..., category: _Optional[str] = ..., severity: _Optional[str] = ..., confidence: _Optional[float] = ..., is_shown: _Optional[bool] = ..., chunk_index: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...
