"""Muon (Jordan, 2024), the optimizer of the blocks' matrices, those of one shape together.

torch has it too, in bfloat16 alone and a matrix at a time. A processor without instructions for bfloat16 emulates it:
there it took as long as the forward and the backward pass together. On an accelerator the many small kernels cost more
than what they compute.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
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
                alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        alike[matrix.shape].append(matrix)
                for matrices in alike.values():
                    self._move(matrices, group)

    def _move(self, matrices: Sequence[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape."""
        leaning = []
        for matrix in matrices:
            kept = self.state[matrix]
            if not kept:
                kept["momentum"] = torch.zeros_like(matrix)
            mean: Tensor = kept["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
            leaning.append(matrix.grad.lerp(mean, group["momentum"]))
        updates = torch.stack(leaning)
        rows, columns = updates.shape[1:]
        rate = -group["lr"] * max(1.0, rows / columns) ** 0.5
        found = orthogonal(updates.bfloat16() if updates.is_cuda else updates).to(updates.dtype)
        for matrix, update in zip(matrices, found, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """(…, rows, columns), each nearly the orthogonal matrix nearest to it.

    The singular vectors are the same, each value is between 0.5 and 1.5.
    """
    a, b, c = _QUINTIC
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    found = matrix.mT if is_tall else matrix
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPSILON)
    for _ in range(_STEPS):
        gram = found @ found.mT
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.mT if is_tall else found
