"""Log-mel front end: stacked filter banks, several times cheaper than convolutions (as in w2v-BERT
2.0, arXiv 2312.05187, section 3.2.1).

Windows of 25 ms every 10 ms, pre-emphasis, Povey window, power spectrum, triangular mel filters,
log: Kaldi's definition of a filter bank, computed for a whole batch at once. There is nothing to
    learn in it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.nn.front_end import FrontEnd
from speechvq.nn.lengths import compute_conv_length, compute_conv_lengths, lengths_to_padding_mask
from speechvq.nn.precision import full_precision

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SAMPLES = 512
PRE_EMPHASIS = 0.97
LOWEST_HERTZ = 20.0
# Just below the rounding noise of 16 bit audio (window energy × 2^-30 / 12): digital silence must
# not dominate an utterance's variance.
LOG_FLOOR = 1e-8


def compute_mel_filters(num_mels: int) -> NDArray[np.float32]:
    """Triangular filters, equally spaced in mel (Kaldi's: linear in mel, no area normalisation).

    Args:
        num_mels: Number of filters.

    Returns:
        (FFT_SAMPLES / 2 + 1, num_mels).
    """
    hertz = np.linspace(0, SAMPLE_RATE / 2, FFT_SAMPLES // 2 + 1)
    mel = 1127.0 * np.log1p(hertz / 700.0)[:, None]  # (F, 1)
    lowest = 1127.0 * np.log1p(LOWEST_HERTZ / 700.0)
    edges = np.linspace(lowest, mel[-1, 0], num_mels + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])  # (F, num_mels)
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0), dtype=np.float32)


def compute_window() -> NDArray[np.float32]:
    """Kaldi's Povey window, (WINDOW_SAMPLES,): a Hann window that goes to zero less steeply."""
    phase = np.arange(WINDOW_SAMPLES) * (2 * math.pi / (WINDOW_SAMPLES - 1))
    window = (0.5 - 0.5 * np.cos(phase)).clip(min=0.0) ** 0.85
    return np.asarray(window, dtype=np.float32)


class FbankFeatureExtractor(FrontEnd):
    """Stacked log-mel features with zero mean and unit variance per utterance and channel.

    Args:
        num_mels: Mel filters.
        stack: Consecutive 10 ms frames that make one frame (2: 20 ms).
        normalize: Whether each utterance and channel gets zero mean and unit variance over its
            valid frames.
    """

    window: Tensor
    mel_filters: Tensor

    def __init__(self, num_mels: int, stack: int, *, normalize: bool = True) -> None:
        super().__init__()
        self.num_mels = num_mels
        self.stack = stack
        self.normalize = normalize
        self.output_dim = num_mels * stack
        # Constants of the code, not of a trained model: they stay out of its files, and come from
        # numpy so that they are real also in a model that is built without memory for weights.
        window, filters = compute_window(), compute_mel_filters(num_mels)
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("mel_filters", torch.from_numpy(filters), persistent=False)

    @property
    def frame_samples(self) -> int:
        """See `FrontEnd.frame_samples`."""
        return HOP_SAMPLES * self.stack

    def num_frames(self, num_samples: int) -> int:
        """See `FrontEnd.num_frames`."""
        return compute_conv_length(num_samples, WINDOW_SAMPLES, HOP_SAMPLES) // self.stack

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `FrontEnd.forward`; always float32."""
        self.check_samples(waveform.size(1))
        lengths = compute_conv_lengths(lengths, WINDOW_SAMPLES, HOP_SAMPLES)
        lengths = torch.div(lengths, self.stack, rounding_mode="floor")
        num_frames = self.num_frames(waveform.size(1))
        with full_precision(waveform):
            features = self.compute_log_mel(waveform.float())
            features = features[:, : num_frames * self.stack]  # (B, stack * T, num_mels)
            if self.normalize:
                features = _normalize_frames(features, lengths * self.stack)
        # Mel by mel, so that codebooks that share the channels each get a range of frequencies.
        features = features.reshape(-1, num_frames, self.stack, self.num_mels).transpose(2, 3)
        return features.reshape(-1, num_frames, self.output_dim), lengths

    def compute_log_mel(self, waveform: Tensor) -> Tensor:
        """Log-mel energies every 10 ms.

        Args:
            waveform: (B, S) float32.

        Returns:
            (B, 10 ms frames, num_mels) float32, natural logarithm.
        """
        frames = waveform.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES)  # (B, N, WINDOW_SAMPLES) view
        frames = frames - frames.mean(-1, keepdim=True)
        # Kaldi repeats the first sample where pre-emphasis needs one before it.
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - PRE_EMPHASIS * previous) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames, n=FFT_SAMPLES))  # (B, N, F, 2)
        power = spectrum.square().sum(-1)
        return (power @ self.mel_filters).clamp(min=LOG_FLOOR).log()


def _normalize_frames(features: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over valid frames of (B, N, C); padding becomes 0."""
    padding = lengths_to_padding_mask(lengths, features.size(1), features.device)[..., None]
    count = lengths.to(features.device, non_blocking=True).clamp(min=1)[:, None, None]
    features = features.masked_fill(padding, 0.0)
    mean = features.sum(1, keepdim=True) / count  # (B, 1, C)
    centred = (features - mean).masked_fill(padding, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * (variance + 1e-5).rsqrt()
