"""A small language model of the encoder's own layers, with a causal mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechvq.nn.transformer import EncoderLayer


class TokenModel(nn.Module):
    """Pre-norm Transformer that predicts the next token.

    Args:
        num_tokens: N.
        max_length: Longest text.
        num_layers: L.
        model_dim: D.
        num_heads: H.
    """

    def __init__(
        self, num_tokens: int, max_length: int, *, num_layers: int, model_dim: int, num_heads: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, model_dim)
        self.positions = nn.Parameter(torch.randn(max_length, model_dim) * 0.02)
        nn.init.normal_(self.tokens.weight, std=0.5)
        self.layers = nn.ModuleList(
            EncoderLayer(
                model_dim,
                num_heads,
                4 * model_dim,
                conv_kernel=0,
                norm_first=True,
                dropout=0.0,
                attention_dropout=0.0,
                activation_dropout=0.0,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim)
        self.head = nn.Linear(model_dim, num_tokens)
        causal = torch.ones(max_length, max_length, dtype=torch.bool).tril()
        self.register_buffer("causal", causal, persistent=False)
        self.causal: Tensor

    def forward(self, texts: Tensor) -> Tensor:
        """(B, T) long → (B, T, N) logits of the token after each."""
        length = texts.size(1)
        frames = self.tokens(texts) + self.positions[:length]
        attend = self.causal[None, None, :length, :length]
        for layer in self.layers:
            frames = layer(frames, attend, None)
        logits: Tensor = self.head(self.norm(frames))
        return logits

    @torch.no_grad()
    def write(self, begin: Tensor, num_tokens: int, generator: torch.Generator) -> Tensor:
        """Draws texts token by token.

        Args:
            begin: (B, 1) long, their first tokens.
            num_tokens: How many come after.
            generator: Draws them, on the CPU.

        Returns:
            (B, 1 + `num_tokens`) long.
        """
        texts = begin
        for _ in range(num_tokens):
            probs = self(texts)[:, -1].float().softmax(-1).cpu()
            chosen = torch.multinomial(probs, 1, generator=generator).to(texts.device)
            texts = torch.cat([texts, chosen], 1)
        return texts
