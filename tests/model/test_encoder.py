# ruff: noqa: E402
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.config import RECIPES, EncoderConfig, load_recipe
from model.encoder import Encoder, TwoHeads, build, parameters, rotary, rotate
from model.labels import CATEGORIES, SEVERITIES, load_concepts

pytestmark = pytest.mark.train
CONFIG = EncoderConfig(vocab_size=50, width=16, layers=2, heads=2, hidden=24, bigrams=64, max_tokens=12)


@pytest.fixture
def encoder() -> Encoder:
    """One whose blocks all say something: as made, each begins as the identity."""
    torch.manual_seed(3)
    encoder = Encoder(CONFIG, 5).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def answer(encoder: Encoder, *rows: list[int], length: int = 0) -> np.ndarray:
    """Logits of rows padded to the longest, or to `length`."""
    width = max(length, *map(len, rows))
    with torch.inference_mode():
        return encoder(torch.tensor([row + [0] * (width - len(row)) for row in rows])).numpy()


def test_a_row_has_one_logit_for_each_output(encoder: Encoder) -> None:
    assert answer(encoder, [1, 2, 3], [4]).shape == (2, 5)


def test_padding_and_company_change_nothing(encoder: Encoder) -> None:
    rows = [[7, 3, 9], [7, 3, 9, 11, 2, 5, 8, 1], [4]]
    together = answer(encoder, *rows)
    for row, beside in zip(rows, together, strict=True):
        np.testing.assert_allclose(answer(encoder, row)[0], beside, atol=1e-5)
        np.testing.assert_allclose(answer(encoder, row, length=12)[0], beside, atol=1e-5)


def test_each_token_and_its_place_are_heard(encoder: Encoder) -> None:
    row = [7, 3, 9, 11, 2]
    for at in range(len(row)):
        other = [*row[:at], 20, *row[at + 1 :]]
        assert np.abs(answer(encoder, row) - answer(encoder, other)).max() > 1e-3
    assert np.abs(answer(encoder, row) - answer(encoder, [7, 9, 3, 11, 2])).max() > 1e-3


def test_without_its_pairs_and_positions_the_order_of_tokens_would_be_lost(encoder: Encoder) -> None:
    """Both carry order, each alone: with both gone, tokens after the first are a bag."""
    row, other = [7, 3, 9, 11], [7, 11, 3, 9]

    def gap() -> float:
        return float(np.abs(answer(encoder, row) - answer(encoder, other)).max())

    pairs = encoder.pair.weight.clone()
    torch.nn.init.zeros_(encoder.pair.weight)
    assert gap() > 1e-3
    encoder.cos.fill_(1)
    encoder.sin.zero_()
    assert gap() < 1e-5
    with torch.no_grad():
        encoder.pair.weight.copy_(pairs)
    assert gap() > 1e-3


def test_as_made_each_block_is_the_identity() -> None:
    torch.manual_seed(3)
    encoder = Encoder(CONFIG, 5).eval()
    x = torch.randn(2, 6, CONFIG.width)
    mask = torch.zeros(2, 1, 1, 6)
    for block in encoder.blocks:
        torch.testing.assert_close(block(x, mask, encoder.cos[:6], encoder.sin[:6]), x)


def test_a_rotation_keeps_length_and_tells_only_how_far_apart_two_places_are() -> None:
    cos, sin = rotary(20, 8)
    q, k = torch.randn(8), torch.randn(8)
    turned_q, turned_k = (rotate(x.expand(20, 8), cos, sin) for x in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(20))
    meeting = turned_q @ turned_k.T
    for apart in (0, 1, 7):
        places = meeting.diagonal(apart)
        torch.testing.assert_close(places, places[:1].expand(len(places)), rtol=1e-4, atol=1e-4)
    assert (meeting.diagonal(0)[0] - meeting.diagonal(7)[0]).abs() > 1e-3


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (12, 4)])
def test_a_width_that_does_not_divide_into_even_heads_is_refused(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"width {width} must divide into {heads} heads of even size"):
        Encoder(EncoderConfig(width=width, heads=heads), 2)


def test_positions_are_computed_and_not_kept_in_the_weights(encoder: Encoder) -> None:
    assert {"cos", "sin"} & set(encoder.state_dict()) == set()


@pytest.mark.parametrize(
    ("name", "number"), [("smoke", 63_000), ("small", 5_800_000), ("base", 15_300_000), ("reference", 35_000_000)]
)
def test_a_recipe_has_about_the_parameters_it_says(name: str, number: int) -> None:
    with torch.device("meta"):
        made = build(load_recipe(RECIPES / f"{name}.toml").encoder, 150)
    assert parameters(made) == pytest.approx(number, rel=0.03)


def test_learned_places_are_heard_and_turn_nothing() -> None:
    torch.manual_seed(3)
    encoder = Encoder(replace(CONFIG, positions="learned", bigrams=0), 5).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert encoder.pair is None
    assert np.abs(answer(encoder, [7, 3, 9]) - answer(encoder, [7, 9, 3])).max() > 1e-3
    np.testing.assert_allclose(answer(encoder, [7, 3, 9], length=12), answer(encoder, [7, 3, 9]), atol=1e-5)
    with torch.no_grad():
        encoder.place.weight.zero_()
    np.testing.assert_allclose(answer(encoder, [7, 3, 9]), answer(encoder, [7, 9, 3]), atol=1e-5)


CATALOG = {concept.id: concept for concept in load_concepts()}
# Two bugs of one category, and a nit.
CONCEPTS = [CATALOG[name] for name in ("bare_except", "subprocess_no_check", "missing_docstring")]


@pytest.fixture
def two() -> TwoHeads:
    torch.manual_seed(3)
    two = TwoHeads(replace(CONFIG, positions="learned", answers="severity_category"), 1 + len(CONCEPTS)).eval()
    two.learn_counts(CONCEPTS, [900, 60, 20, 20])
    return two


def test_two_heads_spread_their_answer_over_the_concepts_of_each_pair(two: TwoHeads) -> None:
    tokens = torch.tensor([[1, 2, 3], [4, 5, 0]])
    with torch.inference_mode():
        severity, category = (head.exp().numpy() for head in two.heads(tokens))
        chances = two(tokens).exp().numpy()
    assert (severity.shape, category.shape) == ((2, 4), (2, 12))
    np.testing.assert_allclose(chances[:, 0], 0.9, rtol=1e-5)  # nine of ten training lines were clean
    bug = severity[:, SEVERITIES.index("bug")] * category[:, CATEGORIES.index("error_handling")] * 0.1
    np.testing.assert_allclose(chances[:, 1], bug * 60 / 80, rtol=1e-4)
    np.testing.assert_allclose(chances[:, 2], bug * 20 / 80, rtol=1e-4)
    nit = severity[:, SEVERITIES.index("nit")] * category[:, CATEGORIES.index("documentation")] * 0.1
    np.testing.assert_allclose(chances[:, 3], nit, rtol=1e-4)


def test_two_heads_learn_from_findings_alone_half_by_each(two: TwoHeads) -> None:
    tokens, labels = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 7, 8]]), torch.tensor([3, 0, 1])
    severity, category = (head.detach().numpy() for head in two.heads(tokens))
    expected = -0.5 * (
        severity[0, SEVERITIES.index("nit")] + category[0, CATEGORIES.index("documentation")]
        + severity[2, SEVERITIES.index("bug")] + category[2, CATEGORIES.index("error_handling")]
    ) / 2  # fmt: skip
    assert two.loss(tokens, labels, torch.zeros(4)).item() == pytest.approx(expected, rel=1e-5)
    clean = two.loss(tokens, torch.zeros(3, dtype=torch.int64), torch.zeros(4))
    clean.backward()
    assert clean.item() == 0
    assert all(value.grad is None or not value.grad.any() for value in two.parameters())


def test_no_count_leaves_a_concept_without_a_finite_answer() -> None:
    two = TwoHeads(replace(CONFIG, answers="severity_category"), 1 + len(CONCEPTS)).eval()
    for counts in ([0, 0, 0, 0], [10, 0, 0, 0], [0, 5, 5, 5]):
        two.learn_counts(CONCEPTS, counts)
        assert torch.isfinite(two(torch.tensor([[1, 2]]))).all()
