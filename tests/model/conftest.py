from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model.config import RECIPES, load_recipe
from tests.model import made


@dataclass(frozen=True)
class Trained:
    """What a run of the smoke recipe over made data left behind."""

    data: Path
    weights: Path
    run: Path
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The smoke recipe from end to end, once for all tests; needs torch."""
    from model.train import train

    folder = tmp_path_factory.mktemp("trained")
    done = Trained(made.write_all(folder / "data"), folder / "weights", folder / "run")
    recipe = load_recipe(RECIPES / "smoke.toml")
    train(recipe, done.data, done.weights, done.run, done.said.append, clock=made.still)
    return done
