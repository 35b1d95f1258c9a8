import tomllib
from pathlib import Path

import pytest

from sentinelctl.errors import SentinelError
from sentinelctl.shipped import shipped

ROOT = Path(__file__).parents[2]


def test_what_lies_in_the_checkout_is_found() -> None:
    assert shipped("compose/prometheus.yml") == ROOT / "compose/prometheus.yml"


def test_what_is_nowhere_is_named_with_what_to_do() -> None:
    with pytest.raises(SentinelError, match=r"no compose/none\.yml beside ") as caught:
        shipped("compose/none.yml")
    assert "pip install" in caught.value.remedy


def test_a_wheel_has_it_below_the_package_under_the_same_path() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    given = wheel["force-include"]
    assert {inside.removeprefix("sentinelctl/"): outside for outside, inside in given.items()} == {
        outside: outside for outside in given
    }
    for path in ("compose/images", "grafana/provisioning", "grafana/dashboards"):
        assert path in given
    assert all((ROOT / path).exists() for path in given)
