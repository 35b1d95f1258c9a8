from sentinel.v1 import inference_pb2 as _inference_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("delivery_id", "repository", "installation_id", "received_at_ns", "push", "pull_request", "revision")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    INSTALLATION_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    PUSH_FIELD_NUMBER: _ClassVar[int]
    PULL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    repository: Repository
    installation_id: int
    received_at_ns: int
    push: PushEvent
    pull_request: PullRequestEvent
    revision: int
    def __init__(self, delivery_id: _Optional[str] = ..., repository: _Optional[_Union[Repository, _Mapping]] = ..., installation_id: _Optional[int] = ..., received_at_ns: _Optional[int] = ..., push: _Optional[_Union[PushEvent, _Mapping]] = ..., pull_request: _Optional[_Union[PullRequestEvent, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class Repository(_message.Message):
    __slots__ = ("id", "full_name", "default_branch")
    ID_FIELD_NUMBER: _ClassVar[int]
    FULL_NAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_BRANCH_FIELD_NUMBER: _ClassVar[int]
    id: int
    full_name: str
    default_branch: str
    def __init__(self, id: _Optional[int] = ..., full_name: _Optional[str] = ..., default_branch: _Optional[str] = ...) -> None: ...

class PushEvent(_message.Message):
    __slots__ = ("ref", "before", "after", "is_forced")
    REF_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    IS_FORCED_FIELD_NUMBER: _ClassVar[int]
    ref: str
    before: str
    after: str
    is_forced: bool
    def __init__(self, ref: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., is_forced: _Optional[bool] = ...) -> None: ...

class PullRequestEvent(_message.Message):
    __slots__ = ("number", "action", "head_sha", "head_ref", "base_sha", "base_ref")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    HEAD_SHA_FIELD_NUMBER: _ClassVar[int]
    HEAD_REF_FIELD_NUMBER: _ClassVar[int]
    BASE_SHA_FIELD_NUMBER: _ClassVar[int]
    BASE_REF_FIELD_NUMBER: _ClassVar[int]
    number: int
    action: str
    head_sha: str
    head_ref: str
    base_sha: str
    base_ref: str
    def __init__(self, number: _Optional[int] = ..., action: _Optional[str] = ..., head_sha: _Optional[str] = ..., head_ref: _Optional[str] = ..., base_sha: _Optional[str] = ..., base_ref: _Optional[str] = ...) -> None: ...

class ReviewRequest(_message.Message):
    __slots__ = ("so_far", "hunks", "pieces", "asked_at_ns")
    SO_FAR_FIELD_NUMBER: _ClassVar[int]
    HUNKS_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    so_far: ReviewReady
    hunks: _containers.RepeatedCompositeFieldContainer[_inference_pb2.Hunk]
    pieces: _containers.RepeatedCompositeFieldContainer[Place]
    asked_at_ns: int
    def __init__(self, so_far: _Optional[_Union[ReviewReady, _Mapping]] = ..., hunks: _Optional[_Iterable[_Union[_inference_pb2.Hunk, _Mapping]]] = ..., pieces: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., asked_at_ns: _Optional[int] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("partition", "offset")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ReviewReady(_message.Message):
    __slots__ = ("event", "commit_sha", "findings", "coverage", "model", "timings", "revision", "findings_cut", "unposted_at_ns")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_SHA_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_CUT_FIELD_NUMBER: _ClassVar[int]
    UNPOSTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    event: Event
    commit_sha: str
    findings: _containers.RepeatedCompositeFieldContainer[_inference_pb2.Finding]
    coverage: Coverage
    model: _inference_pb2.Model
    timings: Timings
    revision: int
    findings_cut: int
    unposted_at_ns: int
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ..., commit_sha: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[_inference_pb2.Finding, _Mapping]]] = ..., coverage: _Optional[_Union[Coverage, _Mapping]] = ..., model: _Optional[_Union[_inference_pb2.Model, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., revision: _Optional[int] = ..., findings_cut: _Optional[int] = ..., unposted_at_ns: _Optional[int] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("hunks", "hunks_reviewed", "skipped")
    class SkippedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    HUNKS_FIELD_NUMBER: _ClassVar[int]
    HUNKS_REVIEWED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    hunks: int
    hunks_reviewed: int
    skipped: _containers.ScalarMap[str, int]
    def __init__(self, hunks: _Optional[int] = ..., hunks_reviewed: _Optional[int] = ..., skipped: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_s", "github_s", "inference_s", "forward_s", "ready_at_ns")
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    GITHUB_S_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_S_FIELD_NUMBER: _ClassVar[int]
    FORWARD_S_FIELD_NUMBER: _ClassVar[int]
    READY_AT_NS_FIELD_NUMBER: _ClassVar[int]
    queue_s: float
    github_s: float
    inference_s: float
    forward_s: float
    ready_at_ns: int
    def __init__(self, queue_s: _Optional[float] = ..., github_s: _Optional[float] = ..., inference_s: _Optional[float] = ..., forward_s: _Optional[float] = ..., ready_at_ns: _Optional[int] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("topic", "partition", "offset", "key", "value", "headers", "reason", "message", "attempts", "first_failed_at_ns", "last_failed_at_ns", "group", "service_version", "timestamp_ms", "settled")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FAILED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    reason: str
    message: str
    attempts: int
    first_failed_at_ns: int
    last_failed_at_ns: int
    group: str
    service_version: str
    timestamp_ms: int
    settled: Settled
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., attempts: _Optional[int] = ..., first_failed_at_ns: _Optional[int] = ..., last_failed_at_ns: _Optional[int] = ..., group: _Optional[str] = ..., service_version: _Optional[str] = ..., timestamp_ms: _Optional[int] = ..., settled: _Optional[_Union[Settled, _Mapping]] = ...) -> None: ...

class Settled(_message.Message):
    __slots__ = ("place", "action")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    place: Place
    action: str
    def __init__(self, place: _Optional[_Union[Place, _Mapping]] = ..., action: _Optional[str] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
