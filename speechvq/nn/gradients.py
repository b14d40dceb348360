"""Gradients that differ from what the forward pass says.

`scale_gradient` slows the learning of the convolution stack (wav2vec 2.0, section 4.2);
`keep_in_graph` gives unused parameters a zero gradient, so that DistributedDataParallel needs no
search for unused parameters when a layer was dropped or a language's head was not asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


class _KeepInGraph(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0], *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)


def scale_gradient(tensor: Tensor, scale: float) -> Tensor:
    """Identity whose gradient is multiplied by `scale`.

    Args:
        tensor: Any shape.
        scale: Factor of the gradient; 0 stops it.

    Returns:
        The same values.
    """
    if scale == 1.0:
        return tensor
    if scale == 0.0:
        return tensor.detach()
    result: Tensor = _ScaleGradient.apply(tensor, scale)  # type: ignore[no-untyped-call]
    return result


def keep_in_graph(tensor: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """Identity that gives each of `parameters` a gradient of exact zeros.

    Args:
        tensor: Any shape; some value on which the loss depends.
        parameters: What this forward pass did not use.

    Returns:
        The same values.
    """
    if not torch.is_grad_enabled():
        return tensor
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        return tensor
    result: Tensor = _KeepInGraph.apply(tensor, *trainable)  # type: ignore[no-untyped-call]
    return result
