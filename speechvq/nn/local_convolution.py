"""What each frame takes from its neighbours: the convolution part of a Conformer layer (Gulati et
al. 2020, arXiv 2005.08100, section 2.2), as in w2v-BERT.

Attention has to learn from data what is near; a convolution knows. On little data and few updates
that is much of what there is to gain.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LocalConvolution(nn.Module):
    """Gated projection, depthwise convolution, layer norm, swish, projection.

    The published batch norm is a layer norm here: what a frame becomes never depends on the other
    utterances of its batch.

    Args:
        model_dim: D.
        kernel: Frames that the convolution sees, an odd number.
    """

    def __init__(self, model_dim: int, kernel: int) -> None:
        super().__init__()
        self.input = nn.Linear(model_dim, 2 * model_dim)
        self.depthwise = nn.Conv1d(
            model_dim, model_dim, kernel, padding=kernel // 2, groups=model_dim
        )
        self.norm = nn.LayerNorm(model_dim)
        self.output = nn.Linear(model_dim, model_dim)
        for layer in (self.input, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, frames: Tensor, padding: Tensor | None) -> Tensor:
        """Maps (B, T, D) to (B, T, D); `padding` (B, T) bool is True where no frame is."""
        gated = F.glu(self.input(frames), dim=-1)
        if padding is not None:
            gated = gated.masked_fill(padding[..., None], 0.0)
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        result: Tensor = self.output(F.silu(self.norm(mixed)))
        return result
