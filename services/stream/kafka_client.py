"""One client of kafka-python, on a thread of its own so that the event loop never waits for the network."""

import asyncio
import contextlib
import logging
import queue
import ssl
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from kafka import errors
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from services.errors import BusUnavailable, ConfigError
from services.settings import StreamSettings, variable
from services.stream.connection import settle

C = TypeVar("C")
T = TypeVar("T")

_RECONNECT_MAX_MS: Final = 1000
_METADATA_MAX_AGE_MS: Final = 10_000  # a topic made later is noticed by then
_PASSING: Final = (errors.RetriableError, errors.RebalanceInProgressError)
_NO_ANSWER: Final = (
    errors.KafkaTimeoutError,
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.IllegalStateError,  # what was under way when a client was closed because another call had no answer
)
_LOGIN: Final = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.SecurityDisabledError,
)


class LastWords(logging.Handler):
    """Why kafka-python last failed to connect: its exceptions say that nobody answered, only its log says why."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        what, failed, why = record.getMessage().partition("failed: ")
        is_a_consequence = "socket disconnected" in why and bool(self.said)  # of the refusal before it
        if failed and what.startswith(("Connection ", "Bootstrap connection ")) and not is_a_consequence:
            self.said = why.partition(" (backoff")[0][:300]


_LAST_WORDS: Final = LastWords()


class _Job(NamedTuple):
    work: Callable[[Any], Any]
    done: "asyncio.Future[Any]"


class KafkaClient(Generic[C]):
    """Opened by the first call, and anew after a failure that may have broken it.

    connect, disconnect: run on the thread; each takes at most two timeouts. disconnect is told whether it is broken.
    """

    def __init__(
        self, settings: StreamSettings, connect: Callable[[], C], disconnect: Callable[[C, bool], None], *, name: str
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._disconnect = disconnect
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._client: C | None = None
        self._is_broken = threading.Event()
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        return self._client is not None

    @property
    def is_broken(self) -> bool:
        return self._is_broken.is_set()

    async def run(self, work: Callable[[C], T], *, within_s: float | None = None) -> T:
        """`work(client)`, in order of the calls. Raises BusUnavailable naming the brokers.

        within_s: default three timeouts, for calls that wait no longer than one themselves: above it the client hangs.
        Cancelling the call does not stop work that has begun.
        """
        if self._is_closed:
            raise BusUnavailable(
                f"the log at {self._settings.bootstrap} was closed by this process; it is shutting down"
            )
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"kafka-{self._name}", daemon=True)
            self._thread.start()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, done))
        limit_s = within_s or 3 * self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await done
        except TimeoutError as exc:
            raise self.give_up(limit_s) from exc

    def give_up(self, after_s: float) -> BusUnavailable:
        """The next call opens a new client."""
        self._is_broken.set()
        return BusUnavailable(
            f"the client of Kafka at {self._settings.bootstrap} has not come back for {after_s:g} s; restart this "
            "service if that stays"
        )

    def refusal(self, exc: KafkaError, *, is_final: bool = False) -> BusUnavailable | ConfigError:
        """`exc` for our callers; the next call opens a new client where this one may be broken, or `is_final`."""
        refusal: BusUnavailable | ConfigError
        if isinstance(exc, errors.FencedInstanceIdError):  # a new client would take the place back, and so on
            refusal = ConfigError(
                f"another process joined the group at {self._settings.bootstrap} by this replica's name; stop one of "
                "the two, or give their hosts different names"
            )
        else:
            refusal = BusUnavailable(explain(self._settings, exc))
            if is_final or not isinstance(exc, _PASSING):
                self._is_broken.set()
        refusal.__cause__ = exc
        return refusal

    async def close(self) -> None:
        self._is_closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join, 3 * self._settings.timeout_s)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.done.cancelled():
                continue
            try:
                result = self._perform(job.work)
            except BaseException as exc:  # noqa: BLE001 - it belongs to the caller, who gets it
                settle(job.done, None, exc)
            else:
                settle(job.done, result, None)
        self._drop()

    def _perform(self, work: Callable[[C], T]) -> T:
        try:
            if self._is_broken.is_set():
                self._drop()
            if self._client is None:
                self._client = self._connect()
                _LAST_WORDS.said = ""
            return work(self._client)
        except KafkaError as exc:
            raise self.refusal(exc) from exc

    def _drop(self) -> None:
        was_broken = self._is_broken.is_set()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaError):  # it goes either way
                self._disconnect(client, was_broken)
        self._is_broken.clear()  # what it refused while it was closed says nothing of the next one


def open_client(kind: Callable[..., C], settings: StreamSettings, **more: Any) -> C:
    """A client of kafka-python; `kind` is its class. Raises KafkaError within timeout_s.

    kafka-python would leave a thread and its sockets behind each time that nobody answers.
    """
    begun: list[KafkaNetClient] = []

    def begin(**given: Any) -> KafkaNetClient:
        begun.append(KafkaNetClient(**given))
        return begun[-1]

    try:
        return kind(**options(settings), **more, kafka_client=begin)
    except BaseException:
        for one in begun:
            one.close()
        raise


def options(settings: StreamSettings) -> dict[str, Any]:
    """What every client of kafka-python is given. Raises BusUnavailable for a certificate that cannot be used."""
    kafka = logging.getLogger("kafka")
    if _LAST_WORDS not in kafka.handlers:
        kafka.addHandler(_LAST_WORDS)
        kafka.propagate = False  # its lines are no JSON, and each failure is reported by us
    found: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap.split(",")],
        "bootstrap_timeout_ms": timeout_ms(settings),
        "request_timeout_ms": timeout_ms(settings),
        "reconnect_backoff_max_ms": _RECONNECT_MAX_MS,
        "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
        "security_protocol": settings.security_protocol,
    }
    if settings.api_version:
        found["api_version"] = tuple(int(part) for part in settings.api_version.split("."))
    if settings.security_protocol.endswith("SSL"):
        found["ssl_context"] = _tls(settings)
    if settings.security_protocol.startswith("SASL"):
        found["sasl_mechanism"] = settings.sasl_mechanism
        found["sasl_plain_username"] = settings.sasl_username
        found["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return found


def timeout_ms(settings: StreamSettings) -> int:
    return int(settings.timeout_s * 1000)


def explain(settings: StreamSettings, exc: KafkaError) -> str:
    """What happened, what was seen, what to do."""
    where = f"Kafka at {settings.bootstrap}"
    seen = _LAST_WORDS.said if isinstance(exc, _NO_ANSWER) else str(exc)
    if isinstance(exc, _LOGIN) or "Sasl" in seen:
        return (
            f"{where} refused the login of {settings.sasl_username or 'nobody'} by "
            f"{settings.sasl_mechanism} over {settings.security_protocol}: {seen}; correct stream.security_protocol, "
            f"stream.sasl_mechanism, stream.sasl_username and {variable('stream', 'sasl_password')}"
        )
    if isinstance(exc, errors.AuthorizationError):
        return (
            f"{where} does not allow it to {settings.sasl_username or 'this client'}: {exc}; grant that user the "
            f"topics and groups that begin with {settings.prefix or 'Sentinel names'!r}"
        )
    if isinstance(exc, errors.InvalidSessionTimeoutError):
        return (
            f"{where} does not take stream.lease_s = {settings.lease_s:g}; set it between the brokers' "
            "group.min.session.timeout.ms (6 s unless changed) and group.max.session.timeout.ms"
        )
    if isinstance(exc, _NO_ANSWER):
        return (
            f"{where} did not answer within {settings.timeout_s:g} s; last seen: "
            f"{seen or 'no connection that failed'}; start it, or correct stream.bootstrap and "
            "stream.security_protocol; `sentinelctl doctor` tries it"
        )
    return f"{where} failed: {exc}; its own log says more"


def _tls(settings: StreamSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_path or None)
        if settings.tls_cert_path:
            context.load_cert_chain(settings.tls_cert_path, settings.tls_key_path or None)
    except (OSError, ValueError) as exc:
        raise BusUnavailable(
            f"the TLS files of the log cannot be used: {exc}; stream.tls_ca_path = {settings.tls_ca_path!r}, "
            f"stream.tls_cert_path = {settings.tls_cert_path!r}, stream.tls_key_path = {settings.tls_key_path!r} must "
            "name PEM files that this user may read"
        ) from exc
    return context
