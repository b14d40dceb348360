"""How far attention heads look: distance, local share, entropy, diagonality, against two nulls.

Weights come out of a running encoder by hooks (`capture_attention`) that compute them anew from
queries and keys; what the encoder returns does not change. They are summed up utterance by
utterance (`AttentionTally`), padding left out, so that memory does not grow.

The nulls of each head and utterance, both exact expectations:

    uniform   every frame is looked at alike: (T² − 1) / 3T frames of mean distance. Shuffling the
              keys of each query gives the same on average.
    shuffled  the queries exchange their rows: what remains is which frames the head likes to look
              at from anywhere, and nothing of where it looks from.

Entropy and the idea of diagonality follow Yang et al. 2020, "Understanding self-attention of
self-supervised audio transformers" (arXiv 2006.03265); the scale of ours is by the uniform null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speechvq.nn.transformer import SelfAttention

WINDOWS = (2, 5, 10)
"""Frames to each side."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class HeadFigures:
    """What heads do, one value each: of an utterance, or a mean over utterances.

    Attributes:
        distance: (H,) mean distance of the frame that is looked at, in frames.
        local: (H, W) share of weight within each of `WINDOWS` to both sides.
        entropy: (H,) bits, mean over queries; at most log2 T.
        diagonality: (H,) 1 − distance / uniform distance: 1 on the diagonal, 0 as uniform.
        uniform_distance: (H,) of the uniform null.
        uniform_local: (H, W) of the uniform null.
        shuffled_distance: (H,) of the shuffled null.
        shuffled_local: (H, W) of the shuffled null.
    """

    distance: FloatArray
    local: FloatArray
    entropy: FloatArray
    diagonality: FloatArray
    uniform_distance: FloatArray
    uniform_local: FloatArray
    shuffled_distance: FloatArray
    shuffled_local: FloatArray


FIELDS = tuple(HeadFigures.__dataclass_fields__)


def measure_attention(weights: Tensor) -> HeadFigures:
    """Measures the heads of one layer on one utterance.

    Args:
        weights: (H, T, T), queries by keys, each row sums to 1; no padding.
    """
    weights = weights.detach().to(torch.float64)
    num_heads, size = weights.shape[:2]
    places = torch.arange(size, dtype=torch.int64, device=weights.device)
    distances = (places[:, None] - places).abs()  # (T, T)
    near = torch.stack([distances <= window for window in WINDOWS]).to(torch.float64)  # (W, T, T)
    far = distances.to(torch.float64)
    keys = weights.mean(1)  # (H, T): how often each key is looked at
    distance = (weights * far).sum((1, 2)) / size
    uniform = (size * size - 1) / (3 * size)
    ones = np.ones(num_heads)
    return HeadFigures(
        distance=_to_numpy(distance),
        local=_to_numpy(torch.einsum("hqk,wqk->hw", weights, near) / size),
        entropy=_to_numpy(-torch.xlogy(weights, weights).sum((1, 2)) / size / math.log(2)),
        diagonality=_to_numpy(1 - distance / uniform if size > 1 else distance * math.nan),
        uniform_distance=uniform * ones,
        uniform_local=ones[:, None] * _to_numpy(near.mean((1, 2))),
        shuffled_distance=_to_numpy(keys @ far.mean(0)),
        shuffled_local=_to_numpy(keys @ near.mean(1).T),
    )


class AttentionTally:
    """Running means over utterances, and their standard errors.

    Every utterance counts alike. Memory is that of one result, whatever the number of utterances.

    Args:
        min_frames: Shorter utterances are left out: the widest window would hold all of them.
    """

    def __init__(self, min_frames: int = 2 * max(WINDOWS) + 1) -> None:
        self.min_frames = min_frames
        self._count: dict[int, int] = {}
        self._mean: dict[int, dict[str, FloatArray]] = {}
        self._squares: dict[int, dict[str, FloatArray]] = {}

    def add(self, layer: int, weights: Tensor, lengths: Sequence[int]) -> None:
        """Adds a batch.

        Args:
            layer: Which layer, counted from 0.
            weights: (B, H, T, T).
            lengths: B valid frames.
        """
        for one, length in zip(weights, lengths, strict=True):
            if length >= self.min_frames:
                self._add(layer, measure_attention(one[:, :length, :length]))

    @property
    def layers(self) -> list[int]:
        """Layers of which there is an utterance."""
        return sorted(self._count)

    def get_count(self, layer: int) -> int:
        """Utterances of a layer."""
        return self._count.get(layer, 0)

    def get_means(self, layer: int) -> HeadFigures:
        """Means over the utterances of a layer."""
        return HeadFigures(**self._mean[layer])

    def get_errors(self, layer: int) -> HeadFigures:
        """Standard errors of the means over utterances; NaN for one utterance.

        Utterances of one speaker are alike, so that the error for new speakers is larger.
        """
        count = self._count[layer]
        scale = 1 / (count * (count - 1)) if count > 1 else math.nan
        return HeadFigures(
            **{name: np.sqrt(squares * scale) for name, squares in self._squares[layer].items()}
        )

    def _add(self, layer: int, figures: HeadFigures) -> None:
        """Welford's update."""
        count = self._count[layer] = self._count.get(layer, 0) + 1
        means = self._mean.setdefault(layer, {})
        squares = self._squares.setdefault(layer, {})
        for name in FIELDS:
            value = getattr(figures, name)
            old = means.get(name, np.zeros_like(value))
            means[name] = old + (value - old) / count
            before = squares.get(name, np.zeros_like(value))
            squares[name] = before + (value - old) * (value - means[name])


def compute_attention_weights(
    attention: SelfAttention, frames: Tensor, attend: Tensor | None
) -> Tensor:
    """Computes the weights that self-attention uses inside its fused kernel, without dropout.

    Args:
        attention: The module.
        frames: (B, T, D), its input.
        attend: (B, 1, 1, T) bool, True for keys that may be seen; None for all.

    Returns:
        (B, H, T, T) float32, queries by keys, each row sums to 1.
    """
    size = frames.size(2) // attention.num_heads
    qkv = attention.qkv(frames).view(*frames.shape[:2], 3, attention.num_heads, size)
    queries, keys, _ = qkv.permute(2, 0, 3, 1, 4).float().unbind(0)  # each (B, H, T, D/H)
    scores = queries @ keys.transpose(2, 3) / math.sqrt(size)
    if attend is not None:
        scores = scores.masked_fill(~attend, -math.inf)
    weights: Tensor = scores.softmax(-1)
    return weights


@contextmanager
def capture_attention(module: nn.Module, receive: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Hands over the attention weights of every layer while a model runs.

    What the model returns stays the same, bit for bit. Memory is that of one layer at a time:
    B H T² numbers.

    Args:
        module: A model or an encoder; its `SelfAttention` modules are counted from 0.
        receive: Called in each forward pass with the layer and its (B, H, T, T) weights.

    Yields:
        Nothing; the hooks are gone at the end.
    """
    layers = [one for one in module.modules() if isinstance(one, SelfAttention)]

    def create_hook(number: int) -> Callable[[nn.Module, tuple[Tensor, Tensor | None]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
            assert isinstance(layer, SelfAttention)
            with torch.no_grad():
                receive(number, compute_attention_weights(layer, *inputs))

        return hook

    handles = [
        layer.register_forward_pre_hook(create_hook(number)) for number, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _to_numpy(values: Tensor) -> FloatArray:
    result: FloatArray = values.cpu().numpy()
    return result
