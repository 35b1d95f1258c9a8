from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from model.quantize import quantize_weights


@pytest.fixture
def graphs(tmp_path: Path) -> tuple[Path, Path]:
    """A table, a product and a linear layer as exported, and their int8 form."""
    make, array = onnx.helper.make_node, onnx.numpy_helper.from_array
    random = np.random.default_rng(3)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    graph = onnx.helper.make_graph(
        [
            make("Gather", ["table", "tokens"], ["x"]),
            make("MatMul", ["x", "inner"], ["y"]),
            make("Gemm", ["y", "head", "bias"], ["logits"], transB=1),
        ],
        "small",
        [onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["rows"])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["rows", 70])],
        [
            array(matrix(300, 64), "table"),
            array(matrix(64, 96), "inner"),
            array(matrix(70, 96), "head"),
            array(np.ones(70, np.float32), "bias"),
        ],
    )
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), str(source)
    )
    quantize_weights(source, target)
    return source, target


def logits(path: Path, tokens: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(["logits"], {"tokens": tokens})[0])


def test_answers_stay_near_those_of_the_float_graph_at_a_quarter_of_the_size(graphs: tuple[Path, Path]) -> None:
    source, target = graphs
    tokens = np.arange(300)
    before, after = logits(source, tokens), logits(target, tokens)
    assert np.sqrt(np.mean((before - after) ** 2)) < 0.02 * before.std()
    assert target.stat().st_size < 0.3 * source.stat().st_size


def test_a_row_is_answered_alike_alone_and_in_company(graphs: tuple[Path, Path]) -> None:
    _, target = graphs
    together = logits(target, np.arange(50))
    alone = np.concatenate([logits(target, np.array([token])) for token in range(50)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
