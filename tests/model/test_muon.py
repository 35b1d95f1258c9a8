# ruff: noqa: E402
from copy import deepcopy

import pytest

torch = pytest.importorskip("torch")

from model.muon import Muon, orthogonal

pytestmark = pytest.mark.train


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32)])
def test_the_singular_values_of_an_update_are_near_one_and_its_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonal(matrix)
    assert found.shape == shape
    left, before, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ found @ right.T
    kept = before > 0.05 * before[0]  # what is smaller takes more steps
    after = inside.diagonal()[kept]
    assert after.min() > 0.5
    assert after.max() < 1.5
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-3


def test_its_steps_are_those_of_torch_s_own_but_for_precision() -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((16, 64), (64, 16))]
    ours, theirs = ([torch.nn.Parameter(each.clone()) for each in start] for _ in range(2))
    optimizers = (
        Muon(ours, lr=0.02, weight_decay=0.05),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.05, adjust_lr_fn="original"),
    )
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for before, one, other in zip(start, ours, theirs, strict=True):
        moved = (one.detach() - before).norm()
        assert (one.detach() - other.detach()).norm() < 0.02 * moved  # bfloat16 keeps three digits


def test_a_run_goes_on_from_what_it_kept() -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(8, 8))
    first = Muon([matrix], lr=0.1)
    matrix.grad = torch.randn(8, 8)
    first.step()
    copy = torch.nn.Parameter(matrix.detach().clone())
    second = Muon([copy], lr=0.1)
    second.load_state_dict(deepcopy(first.state_dict()))
    matrix.grad = torch.randn(8, 8)
    copy.grad = matrix.grad.clone()
    first.step()
    second.step()
    assert torch.equal(matrix, copy)
