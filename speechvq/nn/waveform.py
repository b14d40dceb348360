"""Per-utterance normalisation of waveforms, as the large wav2vec 2.0 models expect it (`normalize:
true` in fairseq).
"""

from __future__ import annotations

from torch import Tensor

from speechvq.nn.lengths import lengths_to_padding_mask
from speechvq.nn.precision import full_precision


def normalize_waveform(waveform: Tensor, lengths: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Gives each utterance zero mean and unit variance over its valid samples.

    Args:
        waveform: (B, S) float.
        lengths: (B,) long, valid samples.
        epsilon: Added to the variance, so that silence stays silent.

    Returns:
        (B, S) float32; padding is 0.
    """
    with full_precision(waveform):
        padding = lengths_to_padding_mask(lengths, waveform.size(1), waveform.device)  # (B, S)
        count = lengths.to(waveform.device, non_blocking=True).clamp(min=1)[:, None]  # (B, 1)
        samples = waveform.float().masked_fill(padding, 0.0)
        centred = (samples - samples.sum(1, keepdim=True) / count).masked_fill(padding, 0.0)
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * (variance + epsilon).rsqrt()  # (B, S)
