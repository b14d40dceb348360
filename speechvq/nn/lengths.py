"""Lengths and padding: arithmetic of how many samples or frames of each utterance are valid.

The first step of every module that sees a padded batch. All functions are pure; none waits for an
accelerator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compute_conv_length(length: int, kernel: int, stride: int) -> int:
    """Number of outputs of a convolution without padding.

    Args:
        length: Number of inputs.
        kernel: Kernel size.
        stride: Stride.

    Returns:
        Number of outputs, 0 when the input is shorter than the kernel.
    """
    return 0 if length < kernel else (length - kernel) // stride + 1


def compute_conv_lengths(lengths: Tensor, kernel: int, stride: int) -> Tensor:
    """The same as `compute_conv_length` for a tensor of lengths.

    Args:
        lengths: (B,) long, numbers of inputs.
        kernel: Kernel size.
        stride: Stride.

    Returns:
        (B,) long, numbers of outputs.
    """
    outputs = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
    return outputs.clamp(min=0)


def lengths_to_padding_mask(
    lengths: Tensor, num_frames: int, device: torch.device | None = None
) -> Tensor:
    """Marks what is padding.

    Args:
        lengths: (B,) long, valid frames of each utterance.
        num_frames: T, length of the padded batch.
        device: Where the mask is needed; where `lengths` is by default.

    Returns:
        (B, T) bool, True = padding.
    """
    lengths = lengths.to(device or lengths.device, non_blocking=True)
    return torch.arange(num_frames, device=lengths.device) >= lengths[:, None]  # (B, T)


def may_be_padded(lengths: Tensor, num_frames: int) -> bool:
    """Whether a batch has to be treated as padded.

    Lengths on an accelerator count as padded, because looking at them would make the host wait; so
    does a model that is being traced, because a graph must serve all batches.

    Args:
        lengths: (B,) long.
        num_frames: Length of the padded batch.

    Returns:
        False only when all utterances are known to fill the batch.
    """
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return True
    return bool((lengths < num_frames).any())


def create_padding_mask(
    lengths: Tensor, num_frames: int, device: torch.device | None = None
) -> Tensor | None:
    """The padding mask, or None where no utterance is known to be padded.

    Args:
        lengths: (B,) long.
        num_frames: T.
        device: Where the mask is needed.

    Returns:
        (B, T) bool, True = padding; or None.
    """
    if not may_be_padded(lengths, num_frames):
        return None
    return lengths_to_padding_mask(lengths, num_frames, device)
