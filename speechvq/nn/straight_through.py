"""Straight-through replacement of vectors by codebook entries, exact in value.

The usual `z + (entry - z).detach()` is not the entry in its last bits: frames with the same code
then differ, and everything that compares floats is wrong. Here the value is the entry itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    """Value: `entries`. Gradient: handed to `vectors`, and to `entries` if it wants one."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, entries: Tensor) -> Tensor:
        return entries.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor | None]:
        return grads[0], grads[0] if ctx.needs_input_grad[1] else None


class _RotationTrick(torch.autograd.Function):
    """Value: `entries`. Gradient: as if `entries` were `vectors`, rotated and scaled.

    Fifty et al. 2024 (arXiv 2410.06424), section 4: with e and q the unit vectors, the Householder
    pair R = I - 2 r rᵀ + 2 q eᵀ, r = (e + q) / |e + q|, turns e into q; λ = |entry| / |vector|.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, entries: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, entries)
        return entries.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor | None]:
        vectors, entries = ctx.saved_tensors
        grad = grads[0]
        before = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-8)
        after = entries.norm(dim=-1, keepdim=True)
        e, q = vectors / before, entries / after.clamp(min=1e-8)
        r = e + q
        r = r / r.norm(dim=-1, keepdim=True).clamp(min=1e-8)
        turned = (
            grad
            - 2 * (grad * r).sum(-1, keepdim=True) * r
            + 2 * (grad * q).sum(-1, keepdim=True) * e
        )  # gradient times R: R is applied from the left in the value, its transpose here
        return after / before * turned, grad if ctx.needs_input_grad[1] else None


def replace_straight_through(vectors: Tensor, entries: Tensor, *, rotates: bool) -> Tensor:
    """Entries in value, differentiable with respect to the vectors that they replace.

    Args:
        vectors: (..., d) float.
        entries: (..., d) float, the chosen entries; gets the gradient too, unless detached.
        rotates: Rotation trick instead of a plain copy of the gradient.

    Returns:
        (..., d), bit for bit `entries`.
    """
    function = _RotationTrick if rotates else _StraightThrough
    result: Tensor = function.apply(vectors, entries)  # type: ignore[no-untyped-call]
    return result
