"""The Transformer encoder: context from frames (wav2vec 2.0, section 2; pre-norm and post-norm)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.gradients import keep_in_graph
from speechvq.nn.local_convolution import LocalConvolution


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values.

    Args:
        model_dim: D.
        num_heads: H.
        dropout: Of attention weights. On the CPU any value above 0 leaves PyTorch's fused kernel.
    """

    def __init__(self, model_dim: int, num_heads: int, *, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(model_dim, 3 * model_dim)
        self.output = nn.Linear(model_dim, model_dim)
        for weight in self.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(weight)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, frames: Tensor, attend: Tensor | None) -> Tensor:
        """Maps (B, T, D) to (B, T, D); `attend` (B, 1, 1, T) bool is True for keys that may be
        seen.
        """
        qkv = self.qkv(frames).view(
            *frames.shape[:2], 3, self.num_heads, frames.size(2) // self.num_heads
        )  # (B, T, 3, H, D/H)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, D/H)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attend, self.dropout if self.training else 0.0
        )
        result: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return result


class FeedForward(nn.Module):
    """Two linear maps with GELU between.

    Args:
        model_dim: D.
        ffn_dim: Width between the maps.
        dropout: After GELU.
    """

    def __init__(self, model_dim: int, ffn_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.input = nn.Linear(model_dim, ffn_dim)
        self.output = nn.Linear(ffn_dim, model_dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.input, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (B, T, D) to (B, T, D)."""
        result: Tensor = self.output(self.dropout(F.gelu(self.input(frames))))
        return result


class EncoderLayer(nn.Module):
    """Self-attention, local convolution if there is one, and feed-forward, each with residual
    connection and layer norm.

    Args:
        model_dim: D.
        num_heads: H.
        ffn_dim: Width of the feed-forward part.
        conv_kernel: Frames that the local convolution sees; 0 for none.
        norm_first: Layer norm before each part (pre-norm) instead of after each sum.
        dropout: Of what each part adds.
        attention_dropout: Of attention weights.
        activation_dropout: Inside the feed-forward part.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        ffn_dim: int,
        *,
        conv_kernel: int,
        norm_first: bool,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = SelfAttention(model_dim, num_heads, dropout=attention_dropout)
        self.attention_norm = nn.LayerNorm(model_dim)
        self.convolution: LocalConvolution | None = None
        if conv_kernel:
            self.convolution = LocalConvolution(model_dim, conv_kernel)
            self.convolution_norm = nn.LayerNorm(model_dim)
        self.feed_forward = FeedForward(model_dim, ffn_dim, dropout=activation_dropout)
        self.feed_forward_norm = nn.LayerNorm(model_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, attend: Tensor | None, padding: Tensor | None) -> Tensor:
        """Maps (B, T, D) to (B, T, D).

        Args:
            frames: (B, T, D).
            attend: (B, 1, 1, T) bool, as in `SelfAttention`.
            padding: (B, T) bool, True = padding; None when there is none.
        """
        frames = self._add(self.attention_norm, frames, lambda x: self.attention(x, attend))
        if (convolution := self.convolution) is not None:
            frames = self._add(self.convolution_norm, frames, lambda x: convolution(x, padding))
        return self._add(self.feed_forward_norm, frames, self.feed_forward)

    def _add(self, norm: nn.LayerNorm, frames: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        """One part with its residual connection and its norm."""
        if self.norm_first:
            result: Tensor = frames + self.dropout(part(norm(frames)))
        else:
            result = norm(frames + self.dropout(part(frames)))
        return result


class Encoder(nn.Module):
    """A stack of encoder layers.

    LayerDrop takes its decisions from torch's CPU generator, one number a layer. A dropped layer's
    parameters get a gradient of zeros, so that DistributedDataParallel finds every gradient without
    a search. With sharded parameters (FSDP) all ranks have to drop the same layers: seed the CPU
    generator alike there.

    Args:
        num_layers: L.
        model_dim: D.
        num_heads: H.
        ffn_dim: Width of the feed-forward parts.
        conv_kernel: Frames that the local convolutions see; 0 for none.
        norm_first: Pre-norm (then one more norm after the last layer) or post-norm (then one before
            the first).
        dropout: Of the input and of what each part adds.
        attention_dropout: Of attention weights.
        activation_dropout: Inside the feed-forward parts.
        layer_drop_prob: Probability of leaving a layer out in training.
    """

    def __init__(
        self,
        num_layers: int,
        model_dim: int,
        num_heads: int,
        ffn_dim: int,
        *,
        conv_kernel: int,
        norm_first: bool,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        layer_drop_prob: float,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.layer_drop_prob = layer_drop_prob
        self.norm = nn.LayerNorm(model_dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                model_dim,
                num_heads,
                ffn_dim,
                conv_kernel=conv_kernel,
                norm_first=norm_first,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation_dropout=activation_dropout,
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        frames: Tensor,
        padding: Tensor | None,
        *,
        adapters: Sequence[nn.Module] | None = None,
        return_layers: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Encodes frames.

        Args:
            frames: (B, T, D), positions added.
            padding: (B, T) bool, True = padding; None when there is none.
            adapters: L modules, (B, T, D) to (B, T, D), each applied to the output of a layer and
                dropped with it; None for none.
            return_layers: Whether to collect every layer.

        Returns:
            Context (B, T, D); and, if asked for, L + 1 tensors (B, T, D): the input of the first
            layer, then the output of each layer, in pre-norm before the last norm.
        """
        attend = None if padding is None else _create_attention_mask(padding)
        if not self.norm_first:
            frames = self.norm(frames)
        frames = self.dropout(frames)
        layers = [frames]
        dropped = self._draw_dropped_layers()
        for number, (layer, is_dropped) in enumerate(zip(self.layers, dropped, strict=True)):
            adapter = None if adapters is None else adapters[number]
            if is_dropped:
                frames = keep_in_graph(frames, _list_parameters(layer, adapter))
            else:
                frames = layer(frames, attend, padding)
                if adapter is not None:
                    frames = adapter(frames)
            if return_layers:
                layers.append(frames)
        if self.norm_first:
            frames = self.norm(frames)
        return frames, layers if return_layers else []

    def _draw_dropped_layers(self) -> Iterator[bool]:
        if not self.training or self.layer_drop_prob == 0.0:
            return iter([False] * len(self.layers))
        drawn = torch.rand(len(self.layers), device="cpu") < self.layer_drop_prob
        return iter(drawn.tolist())


def _list_parameters(*modules: nn.Module | None) -> Iterable[Tensor]:
    return (p for module in modules if module is not None for p in module.parameters())


def _create_attention_mask(padding: Tensor) -> Tensor:
    """(B, 1, 1, T) bool, True = may be seen. The first key always may: a row without keys would be
    NaN.
    """
    attend = ~padding
    attend[:, :1] = True
    return attend[:, None, None]
