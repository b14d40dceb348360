"""Adapters: small bottlenecks that fit a frozen encoder to one language (Houlsby et al. 2019; Bapna
& Firat 2019, section 2.1; MMS, section 5).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """A residual bottleneck after an encoder layer: x + W2 · ReLU(W1 · norm(x)).

    A new adapter changes nothing: W2 starts at 0.

    Args:
        model_dim: D.
        adapter_dim: Width of the bottleneck.
    """

    def __init__(self, model_dim: int, adapter_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(model_dim)
        self.down = nn.Linear(model_dim, adapter_dim)
        self.up = nn.Linear(adapter_dim, model_dim)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, T, D)."""
        result: Tensor = frames + self.up(F.relu(self.down(self.norm(frames))))
        return result
