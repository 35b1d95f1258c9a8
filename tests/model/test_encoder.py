# ruff: noqa: E402
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.config import EncoderConfig
from model.encoder import Encoder, rotary, rotate

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
