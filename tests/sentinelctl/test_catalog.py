from pathlib import Path

import pytest

from sentinelctl.catalog import SERVICES, catalog
from sentinelctl.state import ServiceSpec
from services.settings import Settings, load

SECRETS = {"SENTINEL_WEBHOOK_SECRET": "hook-secret", "SENTINEL_GITHUB_TOKEN": "forge-token"}


def settings(tmp_path: Path, **environ: str) -> Settings:
    return load(None, {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path), **SECRETS, **environ})


def by_name(given: Settings, key: bytes = b"key", **scale: int) -> dict[str, ServiceSpec]:
    return {spec.name: spec for spec in catalog(given, digest_key=key, scale=scale)}


def test_inference_starts_first_and_the_receiver_last_of_the_roles() -> None:
    assert SERVICES == ("inference", "extractor", "publisher", "webhook", "autoscaler", "prometheus")


def test_what_a_service_is_given_loads_to_the_settings_it_came_from(tmp_path: Path) -> None:
    given = settings(tmp_path, SENTINEL_EXTRACTOR_IGNORE="*.min.js,docs/*", SENTINEL_EXTRACTOR_MAX_HUNKS="7")
    spec = by_name(given)["extractor"]
    loaded = load(None, {**spec.env, **spec.secrets})
    assert loaded.extractor == given.extractor
    assert loaded.github == given.github
    assert loaded.stream_path == given.stream_path


def test_a_secret_reaches_only_the_environment_of_who_needs_it(tmp_path: Path) -> None:
    specs = by_name(settings(tmp_path))
    assert {name: set(spec.secrets) for name, spec in specs.items()} == {
        "inference": set(),
        "extractor": {"SENTINEL_GITHUB_TOKEN"},
        "publisher": {"SENTINEL_GITHUB_TOKEN"},
        "webhook": {"SENTINEL_WEBHOOK_SECRET"},
        "autoscaler": set(),
        "prometheus": set(),
    }
    for spec in specs.values():
        for secret in SECRETS.values():
            assert secret not in repr(spec) + repr(spec.identity) + repr(spec.env)


def test_the_password_of_the_claims_reaches_those_who_keep_claims(tmp_path: Path) -> None:
    given = settings(tmp_path, SENTINEL_CLAIMS_PASSWORD="claims-password", SENTINEL_CLAIMS_CA_FILE="ca.pem")
    specs = by_name(given)
    holders = [name for name, spec in specs.items() if "SENTINEL_CLAIMS_PASSWORD" in spec.secrets]
    assert holders == ["extractor", "publisher", "webhook"]
    for name in holders:
        assert "claims-password" not in repr(specs[name].env) + repr(specs[name].identity)
        assert specs[name].env["SENTINEL_CLAIMS_CA_FILE"] == str(Path("ca.pem").absolute())


def test_a_rotated_secret_changes_the_identity_of_its_readers_alone(tmp_path: Path) -> None:
    before = by_name(settings(tmp_path))
    after = by_name(settings(tmp_path, SENTINEL_WEBHOOK_SECRET="another"))
    assert [name for name in before if before[name].identity != after[name].identity] == ["webhook"]


def test_the_digest_of_a_secret_depends_on_the_key_of_the_installation(tmp_path: Path) -> None:
    one, other = (by_name(settings(tmp_path), key)["webhook"].digests for key in (b"one", b"other"))
    assert one != other


@pytest.mark.parametrize(
    ("variable", "value", "changed"),
    [
        ("SENTINEL_PUBLISHER_MAX_COMMENTS", "9", ["publisher"]),
        ("SENTINEL_INFERENCE_WINDOW_MS", "9", ["inference"]),
        ("SENTINEL_STREAM_LEASE_S", "9", ["inference", "extractor", "publisher", "webhook", "autoscaler"]),
        ("SENTINEL_EXTRACTOR_REPLICAS", "9", ["autoscaler"]),
        ("SENTINEL_PROJECT_RUNTIME", "embedded", []),
        ("SENTINEL_WEBHOOK_PORT", "9", ["webhook"]),
    ],
)
def test_a_setting_concerns_only_the_services_that_read_it(
    tmp_path: Path, variable: str, value: str, changed: list[str]
) -> None:
    before, after = by_name(settings(tmp_path)), by_name(settings(tmp_path, **{variable: value}))
    assert [name for name in before if before[name].identity != after[name].identity] == changed


def test_the_extractor_finds_the_replicas_that_run_here_unless_told_otherwise(tmp_path: Path) -> None:
    here = by_name(settings(tmp_path))["extractor"].env["SENTINEL_INFERENCE_TARGET"]
    assert here == f"file:{tmp_path}/endpoints/inference"
    elsewhere = by_name(settings(tmp_path, SENTINEL_INFERENCE_TARGET="gpu:50051"))["extractor"]
    assert elsewhere.env["SENTINEL_INFERENCE_TARGET"] == "gpu:50051"


def test_an_operators_count_goes_over_the_settings(tmp_path: Path) -> None:
    assert by_name(settings(tmp_path), extractor=3)["extractor"].replicas == 3
