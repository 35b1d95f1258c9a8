"""The whole network: rows of token ids in, one score per concept out.

Pre-norm transformer without biases: RMSNorm (Zhang and Sennrich, 2019), RoPE (Su et al., 2021), GeGLU (Shazeer, 2020).
Beside its embedding each token carries one of the pair, and one of the triple, that it forms with the tokens before it,
from hashed tables, which gives a small network the eye of an n-gram model at no cost in arithmetic.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import EncoderConfig
from model.inputs.tokenizer import PAD
from model.labels import CATEGORIES, SEVERITIES, Concept


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


class Attention(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.size = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: (rows, length, width). mask: (rows, 1, 1, length), 0 or very negative. cos, sin: (length, size)."""
        rows, length, width = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, width))


class FeedForward(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(F.gelu(gate) * value)


class Block(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_attention, self.norm_forward = Norm(config.width), Norm(config.width)
        self.attention, self.forward_part = Attention(config), FeedForward(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm_attention(x), mask, cos, sin))
        return x + self.drop(self.forward_part(self.norm_forward(x)))


class Encoder(nn.Module):
    """`forward(tokens)`: (rows, length) int64, 0 is padding, to logits (rows, outputs), column 0 no finding."""

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        if config.width % config.heads or (config.width // config.heads) % 2:
            raise ValueError(f"width {config.width} must divide into {config.heads} heads of even size")
        self.config = config
        self.outputs = outputs
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.pair = nn.Embedding(config.bigrams, config.width) if config.bigrams else None
        self.triple = nn.Embedding(config.trigrams, config.width) if config.trigrams else None
        self.drop = nn.Dropout(config.dropout)
        self.place = nn.Embedding(config.max_tokens, config.width) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(2 * config.width)
        self.head = nn.Linear(2 * config.width, outputs)
        cos, sin = rotary(config.max_tokens, config.width // config.heads)
        if self.place is not None:  # a turn by nothing
            cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Block):  # each block begins as the identity
            nn.init.zeros_(module.attention.out.weight)
            nn.init.zeros_(module.forward_part.down.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(tokens))
        return logits

    def features(self, tokens: Tensor) -> Tensor:
        """What the head sees: tokens (rows, length) to (rows, 2 · width)."""
        is_padding = tokens == PAD
        x = self.token(tokens)
        before = F.pad(tokens[:, :-1], (1, 0))
        if self.pair is not None:
            x = x + self.pair((before * 31_337 + tokens) % self.config.bigrams)
        if self.triple is not None:
            first = F.pad(tokens[:, :-2], (2, 0))
            x = x + self.triple((first * 92_821 + before * 31_337 + tokens) % self.config.trigrams)
        x = self.drop(x)
        if self.place is not None:
            x = x + self.place.weight[: tokens.shape[1]]
        mask = is_padding[:, None, None, :].to(x.dtype) * -1e4
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask, cos, sin)
        # The opening token gathers what the row says; the maximum keeps what one token alone says.
        peak = x.masked_fill(is_padding[:, :, None], -1e4).amax(1)
        found: Tensor = self.norm(torch.cat((x[:, 0], peak), -1))
        return found

    def loss(self, tokens: Tensor, labels: Tensor, offset: Tensor) -> Tensor:
        """offset: (outputs,), what drawing rows unevenly adds to the logits."""
        return F.cross_entropy(self(tokens) + offset, labels)


class TwoHeads(nn.Module):
    """The reference's network: an encoder with one head over the severities and one over the categories.

    It learns from findings alone, half by each head, and cannot tell a clean line. So that it can be served beside the
    others, `forward` spreads its answer over the concepts: P(finding) · P(severity) · P(category) · P(concept of both),
    the first and the last as often as training had them.
    """

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.outputs = outputs
        self.encoder = Encoder(config, len(SEVERITIES) + len(CATEGORIES))
        self.register_buffer("severity", torch.zeros(outputs - 1, len(SEVERITIES)))
        self.register_buffer("category", torch.zeros(outputs - 1, len(CATEGORIES)))
        self.register_buffer("prior", torch.zeros(outputs))

    def learn_counts(self, concepts: Sequence[Concept], counts: Sequence[int]) -> None:
        """counts: training lines of each output, none first."""
        cells: dict[tuple[str, str], int] = {}
        for concept, number in zip(concepts, counts[1:], strict=True):
            cell = (concept.severity, concept.category)
            cells[cell] = cells.get(cell, 0) + max(1, number)
        finding = max(1, sum(counts[1:])) / max(2, sum(counts))
        self.prior[0] = math.log(max(1e-4, 1 - finding))
        for at, (concept, number) in enumerate(zip(concepts, counts[1:], strict=True)):
            self.severity[at, SEVERITIES.index(concept.severity)] = 1
            self.category[at, CATEGORIES.index(concept.category)] = 1
            share = max(1, number) / cells[concept.severity, concept.category]
            self.prior[at + 1] = math.log(finding * share)

    def heads(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (rows, 4) of the severities and (rows, 12) of the categories."""
        severity, category = self.encoder(tokens).split((len(SEVERITIES), len(CATEGORIES)), -1)
        return severity.log_softmax(-1), category.log_softmax(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        severity, category = self.heads(tokens)
        concepts = severity @ self.severity.T + category @ self.category.T
        return F.pad(concepts, (1, 0)) + self.prior

    def loss(self, tokens: Tensor, labels: Tensor, _offset: Tensor) -> Tensor:
        severity, category = self.heads(tokens)
        found = labels > 0
        of = (labels[found] - 1).clamp(min=0)
        losses = [
            F.nll_loss(head[found], table[of].argmax(-1), reduction="sum")
            for head, table in ((severity, self.severity), (category, self.category))
        ]
        return (0.5 * losses[0] + 0.5 * losses[1]) / max(1, int(found.sum()))


Network = Encoder | TwoHeads


def build(config: EncoderConfig, outputs: int) -> Network:
    return Encoder(config, outputs) if config.answers == "concept" else TwoHeads(config, outputs)


def parameters(network: Network) -> int:
    return sum(value.numel() for value in network.parameters())


def rotary(length: int, size: int) -> tuple[Tensor, Tensor]:
    """cos and sin tables, (length, size), of rotary positions."""
    rates = 1e4 ** (-torch.arange(0, size, 2) / size)
    angles = torch.arange(length)[:, None] * torch.cat((rates, rates))[None, :]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair of x's last dimension by its position's angle."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
