"""What is Kafka's alone: the ways to it, and what it refuses. What it shares with SQLite is in tests/contracts."""

import asyncio
import datetime
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.errors import BusUnavailable, ConfigError, RecordTooLarge
from services.settings import StreamSettings, load, replica_name
from services.stream.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from services.stream.kafka_client import KafkaClient, options
from services.stream.types import NewRecord, TopicPartition
from tests.contracts.mock_broker import (
    API_VERSION,
    FIND_COORDINATOR,
    MESSAGE_TOO_LARGE,
    NO_COORDINATOR,
    NOT_LEADER,
    PRODUCE,
    MockBroker,
)


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker() as broker:
        broker.create_topic("topic", 4)
        yield broker


def settings(broker: MockBroker, **given: object) -> StreamSettings:
    return StreamSettings.model_validate(
        {
            "kind": "kafka",
            "bootstrap": broker.bootstrap,
            "api_version": API_VERSION,
            "timeout_s": 3,
            "lease_s": 3,
            **given,
        }
    )


async def append(given: StreamSettings, *values: bytes) -> None:
    producer = KafkaProducer(given)
    try:
        await producer.append([NewRecord("topic", b"key", value) for value in values])
    finally:
        await producer.close()


class Certificate:
    """A key and a certificate of it as PEM files; signed by `issuer`, else by itself."""

    def __init__(self, folder: Path, name: str, issuer: "Certificate | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.subject if issuer else self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(issuer.key if issuer else self.key, hashes.SHA256())
        )
        self.path, self.key_path = folder / f"{name}.pem", folder / f"{name}-key.pem"
        self.path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        self.key_path.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@asynccontextmanager
async def tls_before(broker: MockBroker, server: Certificate, client_ca: Certificate | None) -> AsyncIterator[str]:
    """Ends TLS for the broker, which tells its clients of no other address; yields that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.path, server.key_path)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca.path)
    host, _, port = broker.bootstrap.partition(":")
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, inner_writer))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    relay = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    number = relay.sockets[0].getsockname()[1]
    broker.advertise("127.0.0.1", number)
    try:
        yield f"127.0.0.1:{number}"
    finally:
        relay.close()
        for writer in writers:
            writer.close()


async def test_a_broker_behind_tls_is_spoken_to_with_its_ca_and_our_certificate(
    broker: MockBroker, tmp_path: Path
) -> None:
    ca = Certificate(tmp_path, "ca")
    server, client = Certificate(tmp_path, "server", ca), Certificate(tmp_path, "client", ca)
    async with tls_before(broker, server, client_ca=ca) as address:
        given = settings(
            broker,
            bootstrap=address,
            security_protocol="SSL",
            tls_ca_path=str(ca.path),
            tls_cert_path=str(client.path),
            tls_key_path=str(client.key_path),
        )
        await append(given, b"sealed")
        admin = KafkaAdmin(given)
        found = [await admin.read(TopicPartition("topic", number), 0, 9) for number in range(4)]
        await admin.close()
    assert [record.value for records in found for record in records] == [b"sealed"]


async def test_a_broker_that_another_ca_signed_is_refused(broker: MockBroker, tmp_path: Path) -> None:
    ca, other = Certificate(tmp_path, "ca"), Certificate(tmp_path, "other")
    async with tls_before(broker, Certificate(tmp_path, "server", ca), client_ca=None) as address:
        admin = KafkaAdmin(
            settings(broker, bootstrap=address, security_protocol="SSL", tls_ca_path=str(other.path), timeout_s=1)
        )
        with pytest.raises(BusUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await admin.topics()
        await admin.close()


async def test_tls_files_that_cannot_be_used_are_named(broker: MockBroker, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    with pytest.raises(BusUnavailable, match=re.escape(missing)):
        await append(settings(broker, security_protocol="SSL", tls_ca_path=missing), b"x")


def test_a_login_reaches_the_client_and_nothing_that_is_printed() -> None:
    environ = {
        "SENTINEL_STREAM_SECURITY_PROTOCOL": "SASL_SSL",
        "SENTINEL_STREAM_SASL_MECHANISM": "SCRAM-SHA-256",
        "SENTINEL_STREAM_SASL_USERNAME": "sentinel",
        "SENTINEL_STREAM_SASL_PASSWORD": "opensesame",
        "SENTINEL_STREAM_BOOTSTRAP": "one:9092, two:9092",
    }
    given = load(None, environ).stream
    found = options(given)
    assert found["bootstrap_servers"] == ["one:9092", "two:9092"]
    assert (found["security_protocol"], found["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-256")
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("sentinel", "opensesame")
    assert found["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert found["ssl_context"].check_hostname
    assert "opensesame" not in f"{given!r} {given.model_dump_json()}"


@pytest.mark.parametrize("missing", ["SENTINEL_STREAM_SASL_USERNAME", "SENTINEL_STREAM_SASL_PASSWORD"])
def test_a_login_without_a_name_or_password_is_refused_before_any_broker_is_asked(missing: str) -> None:
    environ = {
        "SENTINEL_STREAM_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SENTINEL_STREAM_SASL_USERNAME": "sentinel",
        "SENTINEL_STREAM_SASL_PASSWORD": "opensesame",
    }
    with pytest.raises(ConfigError, match="SENTINEL_STREAM_SASL_PASSWORD") as refusal:
        load(None, {name: value for name, value in environ.items() if name != missing})
    assert "opensesame" not in str(refusal.value)


def test_a_replica_has_a_name_of_its_own_where_somebody_gave_it_one() -> None:
    assert replica_name({}) == ""
    assert replica_name({"SENTINEL_REPLICA": "extractor-2"}).endswith(".extractor-2")


async def test_a_record_that_the_brokers_limit_refuses_names_the_topic_and_the_setting(broker: MockBroker) -> None:
    broker.answer_with(PRODUCE, MESSAGE_TOO_LARGE)
    with pytest.raises(RecordTooLarge, match=r"refused 3 bytes .*topic; raise its max.message.bytes"):
        await append(settings(broker), b"abc")


async def test_lag_waits_for_the_first_coordinator_of_a_new_cluster(broker: MockBroker) -> None:
    await append(settings(broker), b"one", b"two")
    admin = KafkaAdmin(settings(broker))
    broker.answer_with(FIND_COORDINATOR, *[NO_COORDINATOR] * 3)
    assert sum(one.records for one in await admin.lag("group", "topic")) == 2
    await admin.close()


async def test_an_append_outlives_a_change_of_leader(broker: MockBroker) -> None:
    broker.answer_with(PRODUCE, NOT_LEADER, NOT_LEADER)
    await append(settings(broker), b"late")


async def test_a_producer_sends_again_after_a_record_that_it_tried_to_send_expired(broker: MockBroker) -> None:
    """kafka-python's own idempotent producer never does."""
    producer = KafkaProducer(settings(broker, timeout_s=1))
    broker.answer_with(PRODUCE, *[NOT_LEADER] * 1000)
    with pytest.raises(BusUnavailable, match="did not answer within 1 s"):
        await producer.append([NewRecord("topic", b"key", b"expires")])
    broker.answer_well(PRODUCE)
    (appended,) = await producer.append([NewRecord("topic", b"key", b"taken")])
    assert appended.topic == "topic"
    await producer.close()


async def test_topics_of_other_installations_are_not_ours(broker: MockBroker) -> None:
    broker.create_topic("ours-topic", 2)
    admin = KafkaAdmin(settings(broker, prefix="ours-"))
    assert await admin.topics() == {"topic": 2}
    await admin.close()


async def test_brokers_are_where_they_say_and_not_where_we_began(broker: MockBroker) -> None:
    admin = KafkaAdmin(settings(broker, bootstrap=broker.bootstrap.replace("127.0.0.1", "localhost")))
    try:
        assert await admin.brokers() == ["127.0.0.1"]
    finally:
        await admin.close()


async def test_a_consumer_that_was_never_polled_asks_nobody_anything() -> None:
    consumer = KafkaConsumer(StreamSettings(kind="kafka", bootstrap="127.0.0.1:1"), group="group", topic="topic")
    assert await consumer.lag() == []
    await consumer.commit({TopicPartition("topic", 0): 1})
    await consumer.close()


async def test_a_client_that_hangs_is_said_to(broker: MockBroker) -> None:
    """Nothing here waits for it: the limit is what ends the call."""
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    client = KafkaClient(settings(broker), object, lambda *_: None, name="stuck")

    def hang(_: object) -> None:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    with pytest.raises(BusUnavailable, match=r"has not come back for 0\.01 s"):
        await client.run(hang, within_s=0.01)
    released.set()
    assert await client.run(lambda _: "back") == "back"
    await client.close()
