"""What tests of imported and exported models share: weights that hide nothing, a padded batch, and
the largest difference, noted in the test report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from speechvq.models.config import EncoderConfig, FeatureNorm, WaveformConfig

TOLERANCE = 1e-5
LENGTHS = [8000, 5300, 6789]
SMALL_CONV = [(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2
"""wav2vec 2.0's convolutions with few channels: (channels, kernel, stride)."""


def create_tiny_config(norm: str, order: str, *, num_layers: int) -> dict[str, Any]:
    """Front end and encoder of a tiny model, as keywords of its configuration.

    Args:
        norm: `group` or `layer`, of the front end.
        order: `pre` or `post`.
        num_layers: L.
    """
    is_layer = norm == "layer"
    return {
        "waveform": WaveformConfig(
            dims=[16] * 7,
            norm=FeatureNorm(norm),
            bias=is_layer,
            normalize=is_layer,
            masked_statistics=is_layer,
        ),
        "encoder": EncoderConfig(
            num_layers=num_layers,
            model_dim=32,
            num_heads=4,
            ffn_dim=48,
            norm_first=order == "pre",
            position_kernel=16,
            position_groups=4,
        ),
    }


def randomize(model: nn.Module) -> None:
    """Fresh models have zeros and unit norms, which would hide mistakes."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = name.endswith(("weight_g", "original0"))
            if parameter.dim() == 1 or is_gain or not parameter.any():
                parameter.add_(0.2 * torch.randn_like(parameter))


def create_batch(lengths: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """Noise of several lengths, padded with zeros: (B, S) and (B,)."""
    sizes = torch.tensor(lengths or LENGTHS)
    generator = torch.Generator().manual_seed(4)
    waveform = 0.3 * torch.randn(len(sizes), int(sizes.max()), generator=generator)
    waveform[torch.arange(waveform.size(1)) >= sizes[:, None]] = 0.0
    return waveform, sizes


def normalize(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance of each utterance, as it is done before their models; with
    transformers' epsilon, which is ours (fairseq, fairseq2 and torchaudio add 1e-5).
    """
    result = torch.zeros_like(waveform)
    for row, length in enumerate(lengths.tolist()):
        values = waveform[row, :length]
        result[row, :length] = nn.functional.layer_norm(values, values.shape, eps=1e-7)
    return result


class Comparison:
    """Compares tensors, and notes the largest difference of a test in its report.

    Args:
        record: pytest's `record_property`.
    """

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self.record = record

    def __call__(self, what: str, ours: Tensor, theirs: Tensor) -> None:
        """Asserts that the difference is at most `TOLERANCE`; infinities must agree."""
        assert ours.shape == theirs.shape
        assert torch.equal(ours.isinf(), theirs.isinf())
        found = (ours - theirs).masked_fill(theirs.isinf(), 0.0).abs().max()
        self.record(f"max_abs_difference.{what}", float(found))
        assert float(found) <= TOLERANCE
