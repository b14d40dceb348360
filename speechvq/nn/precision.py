"""Numerical precision: which lines stay in fp32 when the rest runs under bf16 autocast.

Losses, softmaxes, statistics and log-mel features call `full_precision`; matrix products of the
network do not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which autocast is off on the tensor's device.

    Args:
        tensor: Any tensor of the computation.

    Returns:
        The context manager. The caller converts its inputs with `.float()`.
    """
    return torch.autocast(device_type=tensor.device.type, enabled=False)
