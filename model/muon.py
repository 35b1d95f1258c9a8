"""Muon (Jordan, 2024), the optimizer of the blocks' matrices, in the precision of the parameters.

torch has it too, in bfloat16, which a processor without instructions for that emulates: there it took as long as the
forward and the backward pass together.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor

_QUINTIC: Final = (3.4445, -4.7750, 2.0315)  # steepest at zero, where small singular values are
_STEPS: Final = 5
_EPSILON: Final = 1e-7


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, made orthogonal; matrices alone. `weight_decay` is apart from the gradient, as in AdamW."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        assert closure is None, "nothing here asks for the loss again"
        with torch.no_grad():
            for group in self.param_groups:
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        self._move(matrix, group)

    def _move(self, matrix: Tensor, group: dict[str, Any]) -> None:
        kept = self.state[matrix]
        if not kept:
            kept["momentum"] = torch.zeros_like(matrix)
        mean: Tensor = kept["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
        update = orthogonal(matrix.grad.lerp(mean, group["momentum"]))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        rows, columns = matrix.shape
        matrix.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal matrix nearest to it: the same singular vectors, each value between 0.5 and 1.5."""
    a, b, c = _QUINTIC
    is_tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if is_tall else matrix
    found = found / found.norm().clamp(min=_EPSILON)
    for _ in range(_STEPS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if is_tall else found
