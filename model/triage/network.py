"""The triage network: the encoder's blocks over word vectors made of hashed n-grams, with two heads."""

import torch
from torch import Tensor, nn

from model.config import EncoderConfig
from model.encoder import Block, Norm, rotary
from model.labels import CATEGORIES, SEVERITIES


class TriageNetwork(nn.Module):
    """`forward(grams, words)`, as words.Batch has them, to logits (rows, 4 severities + 12 categories).

    `vocab_size` of the config is the rows of the hashed table. Words and states are pooled by maximum: what one word
    alone says is enough.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.gram = nn.Embedding(config.vocab_size, config.width, padding_idx=0)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(3 * config.width)
        self.head = nn.Linear(3 * config.width, len(SEVERITIES) + len(CATEGORIES))
        cos, sin = rotary(config.max_tokens, config.width // config.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        nn.init.normal_(self.gram.weight, std=0.1)
        with torch.no_grad():
            self.gram.weight[0] = 0
        nn.init.normal_(self.head.weight, std=self.head.in_features**-0.5)
        nn.init.zeros_(self.head.bias)
        for block in self.blocks:
            for layer in (block.attention.qkv, block.forward_part.up):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.forward_part.down.weight)

    def forward(self, grams: Tensor, words: Tensor) -> Tensor:
        is_padding = words == 0
        vectors = self.gram(grams).sum(1)
        own = x = vectors[words]
        mask = is_padding[:, None, None, :].to(x.dtype) * -1e4
        cos, sin = self.cos[: words.shape[1]], self.sin[: words.shape[1]]
        for block in self.blocks:
            x = block(x, mask, cos, sin)
        pooled = [each.masked_fill(is_padding[:, :, None], -1e4).amax(1) for each in (own, x)]
        logits: Tensor = self.head(self.norm(torch.cat((x[:, 0], *pooled), -1)))
        return logits

    def heads(self, grams: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (rows, 4) of the severities and (rows, 12) of the categories."""
        severity, category = self(grams, words).split((len(SEVERITIES), len(CATEGORIES)), -1)
        return severity, category
