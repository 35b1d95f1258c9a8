# ruff: noqa: E402
"""The reference recipe from its tokenizer to a review: a few steps of the real network, 6 layers of 512, exported to
TorchScript and served by the real inference server, which must answer as the network itself does."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

torch = pytest.importorskip("torch")

from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model import checkpoint
from model.config import RECIPES, load_recipe
from model.encoder import TwoHeads
from model.engine import load_engine, review
from model.export import export_torchscript, own_rows, parity
from model.inputs.diff import parse_patch
from model.train import train
from tests.model import made
from tests.services.inference.test_main import NO_PROXY, start, until

pytestmark = [pytest.mark.train, pytest.mark.e2e, pytest.mark.slow]
PATCH = "@@ -0,0 +1,3 @@\n+try_{0} = 1\n+    except:\n+        print(total)\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    for split, number in (("train", 3), ("validation", 1)):
        for repository in made.named(split, number):
            lines = (("add", "    except:"), ("add", "        print(total)"), ("add", "    total = load(path)"))
            hunk = made.record(repository, *lines, labels={0: ["bare_except"], 1: ["debug_print"]})
            made.write(folder / "data", repository, [hunk] * 20)
    recipe = load_recipe(RECIPES / "reference.toml")
    assert (recipe.encoder.layers, recipe.encoder.width, recipe.encoder.heads) == (6, 512, 8)
    brief = replace(recipe, train=replace(recipe.train, max_steps=6, batch_rows=16, device="cpu", threads=2))
    said: list[str] = []
    train(brief, folder / "data", folder / "weights", folder / "run", said.append, clock=made.still)
    assert any(line.startswith("recipe reference: 19,") and line.endswith(" parameters") for line in said), said
    encoder, _, manifest = checkpoint.load(folder / "weights")
    export_torchscript(encoder, folder / "weights")
    checkpoint.write_manifest(folder / "weights", manifest)
    return folder / "weights"


def test_the_checkpoint_is_the_reference_s_network_and_knows_what_training_counted(weights: Path) -> None:
    encoder, _, manifest = checkpoint.load(weights)
    assert isinstance(encoder, TwoHeads)
    assert manifest["name"] == "sentinel-reference"
    assert manifest["config"]["answers"] == "severity_category"
    assert encoder.prior[0].exp().item() == pytest.approx(1 / 3, abs=1e-3)  # one line of three is clean
    assert encoder.severity.argmax(-1).tolist() == [2, 1]  # a bug and a suggestion
    assert encoder.severity.sum().item() == encoder.category.sum().item() == 2


def test_both_exports_answer_as_the_network(weights: Path) -> None:
    from model.engine import load_forward, read_manifest

    encoder, tokenizer, _ = checkpoint.load(weights)
    rows = own_rows(tokenizer, encoder.config.max_tokens)[:8]
    for engine, gap in (("torchscript", 1e-4), ("onnx", 0.1)):
        assert parity(encoder, load_forward(engine, weights, read_manifest(weights)), rows).largest_gap < gap


async def test_the_inference_server_serves_it(weights: Path, tmp_path: Path) -> None:
    process = await start(tmp_path / "state", port="0", threads="1", engine="torchscript", weights=str(weights))
    try:
        loaded = await until(process, "model.loaded")
        assert (loaded["name"], loaded["engine"]) == ("sentinel-reference", "torchscript")
        started = await until(process, "inference.started")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{started['port']}", options=NO_PROXY) as channel:
            stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = await asyncio.wait_for(stub.ReviewChunk(pb.ChunkRequest(filename="a.py", patch=PATCH)), 60)
    finally:
        process.terminate()
        await process.communicate()
    served = [(each.line, each.concept, round(each.confidence, 4)) for each in answer.findings]
    (own,) = review(load_engine("torchscript", weights, threads=1), list(parse_patch(PATCH, "a.py")))
    assert served == [(each.line, each.concept, round(each.confidence, 4)) for each in own]
    assert {each.concept for each in own} <= set(made.CONCEPTS)
    assert len(own) == 3  # it cannot tell a clean line, and says so of none
