import pytest

from .description import Description
from .material import Material, NoNpm, fetch


@pytest.fixture(scope="session")
def material() -> Material:
    try:
        return fetch()
    except NoNpm as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def description(material: Material) -> Description:
    return Description(material.description)
