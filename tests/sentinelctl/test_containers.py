import os
from pathlib import Path

import pytest
import yaml

from sentinelctl.catalog import catalog
from sentinelctl.containers import contained, data_owner, volumes
from sentinelctl.errors import PreflightError
from sentinelctl.runtime.choice import settled
from sentinelctl.state import Container, Mount, ServiceSpec
from services.settings import Settings, load

SECRETS = {"SENTINEL_WEBHOOK_SECRET": "hook-secret", "SENTINEL_GITHUB_TOKEN": "forge-token"}
PASSWORD = "of-the-admin"
GRAFANA = Path(__file__).parents[2] / "grafana"


def settings(tmp_path: Path, **environ: str) -> Settings:
    given = {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path), "SENTINEL_PROJECT_RUNTIME": "docker", **SECRETS, **environ}
    return settled(load(None, given))[0]


def by_name(given: Settings) -> dict[str, ServiceSpec]:
    specs = contained(given, catalog(given, digest_key=b"key", scale={}), password=PASSWORD)
    return {spec.name: spec for spec in specs}


def container(spec: ServiceSpec) -> Container:
    assert spec.container is not None
    return spec.container


def test_servers_come_before_the_services_that_need_them(tmp_path: Path) -> None:
    specs = by_name(settings(tmp_path))
    roles = ["inference", "extractor", "publisher", "webhook", "autoscaler"]
    assert list(specs) == ["kafka", "redis", *roles, "prometheus", "grafana"]
    assert [name for name, spec in specs.items() if spec.is_gate] == ["kafka", "redis"]


def test_containers_find_the_servers_by_name_on_their_own_network(tmp_path: Path) -> None:
    env = by_name(settings(tmp_path))["extractor"].env
    assert env["SENTINEL_STREAM_BOOTSTRAP"] == "kafka:19092"
    assert env["SENTINEL_CLAIMS_URL"] == "redis://redis:6379/0"
    assert env["SENTINEL_INFERENCE_TARGET"] == "dns:inference:50051"
    assert "SENTINEL_STREAM_PATH" not in env


def test_a_cluster_of_ones_own_is_used_and_none_is_started(tmp_path: Path) -> None:
    given = settings(
        tmp_path, SENTINEL_STREAM_BOOTSTRAP="broker.example:9092", SENTINEL_CLAIMS_URL="rediss://cache.example"
    )
    specs = by_name(given)
    roles = ["inference", "extractor", "publisher", "webhook", "autoscaler"]
    assert list(specs) == [*roles, "prometheus", "grafana"]
    assert specs["webhook"].env["SENTINEL_STREAM_BOOTSTRAP"] == "broker.example:9092"
    assert specs["webhook"].env["SENTINEL_CLAIMS_URL"] == "rediss://cache.example"
    assert [one.name for one in volumes(given)] == [
        "sentinel-scaling",
        "sentinel-prometheus",
        "sentinel-grafana",
    ]


def test_sqlite_lies_on_one_shared_volume_that_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    off = {"SENTINEL_PROMETHEUS_ENABLED": "false", "SENTINEL_AUTOSCALER_ENABLED": "false"}
    given = settings(tmp_path, SENTINEL_STREAM_KIND="sqlite", **off)
    specs = by_name(given)
    assert [(one.name, one.path) for one in volumes(given)] == [("sentinel-log", str(tmp_path / "data"))]
    for name in ("extractor", "publisher", "webhook"):
        assert container(specs[name]).mounts == (Mount("sentinel-log", "/data/log"),)
        assert specs[name].env["SENTINEL_STREAM_PATH"] == "/data/log/log.sqlite"
        assert specs[name].env["SENTINEL_CLAIMS_PATH"] == "/data/log/claims.sqlite"


def test_sqlite_files_in_two_folders_are_two_volumes(tmp_path: Path) -> None:
    given = settings(
        tmp_path,
        SENTINEL_STREAM_KIND="sqlite",
        SENTINEL_STREAM_PATH="/srv/log/it.sqlite",
        SENTINEL_PROMETHEUS_ENABLED="false",
        SENTINEL_AUTOSCALER_ENABLED="false",
    )
    assert [(one.name, one.path) for one in volumes(given)] == [
        ("sentinel-log", "/srv/log"), ("sentinel-claims", str(tmp_path / "data")),
    ]  # fmt: skip
    assert by_name(given)["extractor"].env["SENTINEL_STREAM_PATH"] == "/data/log/it.sqlite"


def test_files_of_the_settings_are_mounted_where_they_are_and_nothing_else_is(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("…")
    given = settings(
        tmp_path, SENTINEL_CLAIMS_URL="rediss://cache.example", SENTINEL_CLAIMS_CA_FILE=str(ca),
        SENTINEL_STREAM_BOOTSTRAP="broker.example:1",
    )  # fmt: skip
    assert container(by_name(given)["publisher"]).mounts == (Mount(str(ca), str(ca), is_read_only=True),)
    assert container(by_name(given)["inference"]).mounts == ()


def test_a_file_of_the_settings_that_is_not_there_is_named(tmp_path: Path) -> None:
    given = settings(tmp_path, SENTINEL_INFERENCE_WEIGHTS=str(tmp_path / "none"))
    with pytest.raises(PreflightError, match=r"inference\.weights is .*none, which is not there"):
        by_name(given)


def test_a_file_that_the_containers_user_may_not_read_is_named_with_that_user(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("…")
    given = settings(
        tmp_path, SENTINEL_STREAM_BOOTSTRAP="broker.example:1", SENTINEL_STREAM_SECURITY_PROTOCOL="SSL",
        SENTINEL_STREAM_TLS_CERT_PATH=str(key),
    )  # fmt: skip
    user = data_owner()[0]
    key.chmod(0o600)
    os.chown(key, user, -1)
    assert Mount(str(key), str(key), is_read_only=True) in container(by_name(given)["inference"]).mounts
    key.chmod(0o044)
    with pytest.raises(
        PreflightError, match=rf"stream\.tls_cert_path is .*key\.pem, which user {user}, .* may not"
    ) as no:
        by_name(given)
    assert no.value.remedy.startswith(f"`chown {user} ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SENTINEL_GITHUB_API_URL", "http://host.docker.internal:3000"),
        ("SENTINEL_STREAM_BOOTSTRAP", "broker.example:1,host.docker.internal:9092"),
        ("SENTINEL_CLAIMS_URL", "rediss://host.docker.internal:7000"),
    ],
)
def test_the_name_of_this_machine_is_known_to_those_who_are_given_it(tmp_path: Path, variable: str, value: str) -> None:
    assert container(by_name(settings(tmp_path, **{variable: value}))["extractor"]).hosts == ("host.docker.internal",)
    assert container(by_name(settings(tmp_path))["extractor"]).hosts == ()


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("SENTINEL_GITHUB_API_URL", "http://127.0.0.1:3000", "github.api_url"),
        ("SENTINEL_STREAM_BOOTSTRAP", "localhost:19092", "stream.bootstrap"),
        ("SENTINEL_CLAIMS_URL", "redis://[::1]:7000", "claims.url"),
    ],
)
def test_an_address_that_means_the_container_itself_is_refused(
    tmp_path: Path, variable: str, value: str, key: str
) -> None:
    with pytest.raises(PreflightError, match=f"{key} names .*the container itself") as caught:
        by_name(settings(tmp_path, **{variable: value}))
    assert "host.docker.internal" in caught.value.remedy


def test_a_container_listens_to_its_network_and_this_machine_on_loopback(tmp_path: Path) -> None:
    webhook = by_name(settings(tmp_path))["webhook"]
    assert webhook.env["SENTINEL_WEBHOOK_BIND"] == "0.0.0.0"
    (http,) = webhook.ports
    assert (http.host, http.number, http.inside) == ("127.0.0.1", 8000, 8000)


def test_grpc_and_the_bus_are_not_published_to_other_hosts(tmp_path: Path) -> None:
    specs = by_name(settings(tmp_path))
    published = {
        (spec.name, port.name): port.host for spec in specs.values() for port in spec.ports if port.is_published
    }
    assert ("inference", "grpc") not in published
    assert set(published.values()) == {"127.0.0.1"}


def test_the_engines_socket_reaches_the_autoscaler_alone_and_its_folder_is_on_this_machine(tmp_path: Path) -> None:
    given = settings(tmp_path, SENTINEL_AUTOSCALER_ENABLED="true", SENTINEL_DOCKER_HOST="unix:///run/its.sock")
    specs = by_name(given)
    holders = {name for name, spec in specs.items() for mount in container(spec).mounts if ".sock" in mount.source}
    assert holders == {"autoscaler"}
    scaler = specs["autoscaler"]
    assert scaler.replicas == 1
    assert set(container(scaler).mounts) == {
        Mount("/run/its.sock", "/var/run/docker.sock"),
        Mount("sentinel-scaling", "/data/scaling"),
        Mount(str(tmp_path / "lock"), "/data/lock", is_read_only=True),
    }
    assert "sentinel-scaling" in [one.name for one in volumes(given)]
    assert scaler.env["SENTINEL_PROJECT_RUNTIME"] == "docker"
    assert scaler.secrets == {}


def test_no_container_runs_as_root(tmp_path: Path) -> None:
    assert 0 not in data_owner()
    users = [container(spec).user for spec in by_name(settings(tmp_path)).values()]
    assert all(user and not user.startswith("0") for user in users)


def test_no_secret_is_in_what_is_shown_or_remembered(tmp_path: Path) -> None:
    for spec in by_name(settings(tmp_path)).values():
        for secret in (*SECRETS.values(), PASSWORD):
            assert secret not in repr(spec) + repr(spec.identity)


def test_other_weights_or_another_engine_are_other_images(tmp_path: Path) -> None:
    onnx, torch = (
        container(by_name(settings(tmp_path, SENTINEL_INFERENCE_ENGINE=engine))["inference"]).image
        for engine in ("onnx", "torchscript")
    )
    assert onnx != torch
    other = container(by_name(settings(tmp_path, SENTINEL_IMAGES_PYTHON="mine:1"))["inference"]).image
    assert other != onnx


def test_grafana_is_open_for_looking_on_loopback_and_calls_nobody(tmp_path: Path) -> None:
    spec = by_name(settings(tmp_path))["grafana"]
    (http,) = spec.ports
    assert (http.host, http.number, http.inside) == ("127.0.0.1", 3000, 3000)
    assert (spec.env["GF_AUTH_ANONYMOUS_ENABLED"], spec.env["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    assert spec.secrets == {"GF_SECURITY_ADMIN_PASSWORD": PASSWORD}, "else it would be admin's well-known one"
    calls = ("REPORTING_ENABLED", "FOR_UPDATES", "FOR_PLUGIN_UPDATES", "FEED_ENABLED", "EXTERNAL_ENABLED")
    assert {value for name, value in spec.env.items() if name.endswith(calls)} == {"false"}
    assert spec.env["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_grafana_is_given_every_file_it_is_provisioned_from(tmp_path: Path) -> None:
    given = container(by_name(settings(tmp_path))["grafana"]).mounts
    files = {Path(mount.source): mount for mount in given if mount.is_read_only}
    assert files.keys() == {path for path in GRAFANA.rglob("*") if path.suffix in (".yml", ".json")}
    for path, mount in files.items():
        assert mount.target == f"/etc/grafana/{path.relative_to(GRAFANA)}"
    assert [mount for mount in given if not mount.is_read_only] == [Mount("sentinel-grafana", "/var/lib/grafana")]


def test_grafana_asks_the_prometheus_that_runs_beside_it(tmp_path: Path) -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    prometheus = by_name(settings(tmp_path))["prometheus"]
    assert source["url"] == f"http://{prometheus.name}:{prometheus.ports[0].inside}"


@pytest.mark.parametrize("off", ["SENTINEL_GRAFANA_ENABLED", "SENTINEL_PROMETHEUS_ENABLED"])
def test_grafana_is_left_out_where_it_is_switched_off_or_has_nobody_to_ask(tmp_path: Path, off: str) -> None:
    given = settings(tmp_path, **{off: "false"})
    assert by_name(given)["grafana"].replicas == 0
    assert "sentinel-grafana" not in [one.name for one in volumes(given)]
