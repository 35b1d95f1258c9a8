# ruff: noqa: E402
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from model.config import EncoderConfig
from model.encoder import Encoder
from model.engine import Forward, _onnx, _torchscript
from model.export import export_onnx, export_torchscript, own_rows, parity
from tests.model import made

pytestmark = pytest.mark.train
CONFIG = EncoderConfig(vocab_size=300, width=32, layers=2, heads=2, hidden=64, bigrams=256, max_tokens=96)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(3)
    encoder = Encoder(CONFIG, 7).eval()
    for block in encoder.blocks:  # as made they are the identity, which would prove nothing of them
        torch.nn.init.normal_(block.attention.out.weight, std=0.2)
        torch.nn.init.normal_(block.forward_part.down.weight, std=0.2)
    return encoder


@pytest.fixture(scope="module")
def exported(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(encoder, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def served(exported: Path) -> Forward:
    return _onnx(exported.read_bytes())


def rows(*lengths: int) -> np.ndarray:
    random = np.random.default_rng(len(lengths))
    batch = np.zeros((len(lengths), max(lengths)), np.int64)
    for at, length in enumerate(lengths):
        batch[at, :length] = random.integers(1, CONFIG.vocab_size, length)
    return batch


@pytest.mark.parametrize("lengths", [(1,), (11,), (96,), (5, 40, 1, 96), tuple(range(1, 65))])
def test_the_int8_graph_answers_as_torch_does_at_any_size(
    lengths: tuple[int, ...], encoder: Encoder, served: Forward
) -> None:
    found = parity(encoder, served, rows(*lengths))
    assert found.rows == len(lengths)
    assert found.largest_gap < 0.03


def test_parity_sees_another_network(served: Forward) -> None:
    torch.manual_seed(4)
    found = parity(Encoder(CONFIG, 7), served, rows(*range(1, 65)))
    assert found.same_label < 0.9
    assert found.largest_gap > 0.1


def test_the_graph_has_the_names_the_engine_feeds_and_holds_its_matrices_as_int8(
    encoder: Encoder, exported: Path
) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["tokens"]
    assert [each.name for each in session.get_outputs()] == ["logits"]
    kinds = {tensor.data_type for tensor in onnx.load(str(exported)).graph.initializer if np.prod(tensor.dims) >= 4096}
    assert kinds == {onnx.TensorProto.INT8}


def test_torchscript_gives_torch_s_own_answers_at_sizes_it_was_not_traced_with(
    encoder: Encoder, tmp_path: Path
) -> None:
    path = export_torchscript(encoder, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
        traced = torch.jit.load(str(path))
    for lengths in ((1,), (5, 40, 96)):
        tokens = torch.from_numpy(rows(*lengths))
        with torch.inference_mode():
            torch.testing.assert_close(traced(tokens), encoder(tokens), rtol=1e-4, atol=1e-5)


def test_an_export_is_compared_on_lines_of_our_own_source(encoder: Encoder, served: Forward, tmp_path: Path) -> None:
    tokens = own_rows(made.tokenizer(), CONFIG.max_tokens)
    assert len(tokens) > 300
    assert tokens.shape[1] <= CONFIG.max_tokens
    tokens = np.minimum(tokens, CONFIG.vocab_size - 1)
    script = _torchscript(export_torchscript(encoder, tmp_path).read_bytes())
    assert parity(encoder, script, tokens).largest_gap < 1e-5
    assert parity(encoder, served, tokens).same_label > 0.9
