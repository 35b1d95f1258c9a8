from pathlib import Path

import pytest

from model.config import RECIPES, EncoderConfig, TrainConfig, build, load_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_is_one_of_each(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert (type(recipe.encoder), type(recipe.train)) == (EncoderConfig, TrainConfig)
    assert recipe.encoder.width % recipe.encoder.heads == 0


def test_what_a_recipe_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[encoder]\nwidth = 64\n")
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert recipe.encoder == EncoderConfig(width=64)
    assert recipe.train == TrainConfig()


def test_a_key_that_means_nothing_is_named_with_those_that_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nepochs = 3\nminutes = 1\n")
    with pytest.raises(ValueError, match=r"TrainConfig has no epochs; it has .*max_steps, minutes"):
        load_recipe(path)
    with pytest.raises(ValueError, match=r"EncoderConfig has no depth, size;"):
        build(EncoderConfig, {"size": 1, "depth": 2})


def test_a_configuration_cannot_be_changed_once_made() -> None:
    with pytest.raises(AttributeError):
        EncoderConfig().width = 256  # type: ignore[misc]


def test_a_word_that_a_choice_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(ValueError, match=r"EncoderConfig.positions is 'sinusoid'; it can be rotary, learned"):
        build(EncoderConfig, {"positions": "sinusoid"})
    with pytest.raises(ValueError, match=r"TrainConfig.device is 'tpu'; it can be auto, cpu, cuda, mps"):
        build(TrainConfig, {"device": "tpu"})


def test_the_reference_is_the_network_this_project_set_out_from() -> None:
    recipe = load_recipe(RECIPES / "reference.toml")
    shape = recipe.encoder
    assert (shape.layers, shape.width, shape.heads, shape.vocab_size) == (6, 512, 8, 32_000)
    assert (shape.positions, shape.answers, shape.bigrams) == ("learned", "severity_category", 0)
    assert recipe.train.schedule == "cosine"
