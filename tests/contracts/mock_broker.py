"""librdkafka's mock Kafka cluster, inside this process: one broker that keeps a few megabytes in memory.

It speaks Kafka's protocol for appends, fetches, offsets and a group of one member. It has no CreateTopics and makes up
every topic it is asked for, keeps records by size and not by age, stamps all with one time, and ends a rebalance of two
members before the second has joined.
"""

import contextlib
import ctypes
import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import confluent_kafka

API_VERSION: Final = "2.3"  # what it speaks well enough; it cannot be asked
PRODUCE: Final = 0
FIND_COORDINATOR: Final = 10
NOT_LEADER: Final = 6
MESSAGE_TOO_LARGE: Final = 10
NO_COORDINATOR: Final = 15

_BROKER: Final = 1


def _load() -> ctypes.CDLL:
    installed = Path(confluent_kafka.__file__).parents[1]
    (path,) = [
        *installed.glob("confluent_kafka.libs/librdkafka-*.so*"),  # Linux
        *installed.glob("confluent_kafka/.dylibs/librdkafka*.dylib"),  # macOS
    ]
    library = ctypes.CDLL(str(path))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("destroy", None, [pointer]),
        ("mock_cluster_new", pointer, [pointer, number]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_topic_create", number, [pointer, text, number, number]),
        ("mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("mock_broker_set_host_port", number, [pointer, ctypes.c_int32, text, number]),
        ("mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("mock_clear_request_errors", None, [pointer, ctypes.c_int16]),
        (
            "mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
        ),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class MockBroker:
    """Serves from construction until close(), on a loopback port of its own."""

    def __init__(self) -> None:
        self._library = _load()
        error = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", error, len(error))
        self._handle = self._library.rd_kafka_new(0, settings, error, len(error))
        assert self._handle, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._wait_until_it_listens()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wait_until_it_listens(self) -> None:
        """Its port is bound at once, and served by a thread that starts later."""
        host, _, port = self.bootstrap.partition(":")
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port)), timeout=10):
                return

    def create_topic(self, name: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def advertise(self, host: str, port: int) -> None:
        """Clients are told to connect there."""
        assert self._library.rd_kafka_mock_broker_set_host_port(self._cluster, _BROKER, host.encode(), port) == 0

    def go_down(self) -> None:
        """Ends its connections and refuses new ones; its records stay."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, _BROKER) == 0

    def come_up(self) -> None:
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER) == 0
        self._wait_until_it_listens()

    def answer_with(self, request: int, *failures: int) -> None:
        """The next requests of this kind are refused, with these error codes of Kafka's protocol."""
        codes = (ctypes.c_int * len(failures))(*failures)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(failures), codes)

    def answer_well(self, request: int) -> None:
        """Forgets the failures that answer_with() left."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def close(self) -> None:
        if self._handle:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._handle = None
