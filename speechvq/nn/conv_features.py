"""Waveform front end: the convolution stack of wav2vec 2.0 (section 2, "Feature encoder"), one
frame every 20 ms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.front_end import FrontEnd
from speechvq.nn.lengths import (
    compute_conv_length,
    compute_conv_lengths,
    lengths_to_padding_mask,
    may_be_padded,
)
from speechvq.nn.precision import full_precision
from speechvq.nn.waveform import normalize_waveform


class TimeGroupNorm(nn.Module):
    """Normalises each channel over the time of its utterance: `nn.GroupNorm` with a group a
    channel, over valid frames only.

    Args:
        num_channels: C.
        epsilon: Added to the variance.
    """

    def __init__(self, num_channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.epsilon = epsilon

    def forward(self, features: Tensor, padding: Tensor | None) -> Tensor:
        """Normalises.

        Args:
            features: (B, C, T).
            padding: (B, T) bool, True = padding; None takes all frames as valid.

        Returns:
            (B, C, T).
        """
        if padding is None:
            channels = features.size(1)
            return F.group_norm(features, channels, self.weight, self.bias, self.epsilon)
        with full_precision(features):
            valid = ~padding[:, None]  # (B, 1, T)
            count = valid.sum(-1, keepdim=True).clamp(min=1)  # (B, 1, 1)
            values = features.float()
            mean = (values * valid).sum(-1, keepdim=True) / count  # (B, C, 1)
            centred = (values - mean) * valid
            variance = centred.square().sum(-1, keepdim=True) / count
            scale = (variance + self.epsilon).rsqrt() * self.weight[:, None]
            return torch.addcmul(self.bias[:, None], centred, scale).to(features.dtype)


class TimeNormConvLayer(nn.Module):
    """Convolution without padding, perhaps a norm over time, GELU; channels first.

    Args:
        input_dim: Channels in.
        output_dim: Channels out.
        kernel: Kernel size.
        stride: Stride.
        bias: Whether the convolution has a bias.
        has_norm: Whether there is a norm (wav2vec 2.0 base: in the first layer only).
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        kernel: int,
        stride: int,
        *,
        bias: bool,
        has_norm: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(input_dim, output_dim, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.time_norm = TimeGroupNorm(output_dim) if has_norm else None

    def forward(self, features: Tensor, padding: Tensor | None) -> Tensor:
        """Maps (B, C_in, T_in) to (B, C_out, T_out); the norm leaves `padding` (B, T_out) out."""
        features = self.conv(features)
        if self.time_norm is not None:
            features = self.time_norm(features, padding)
        return F.gelu(features)


class ChannelNormConvLayer(nn.Module):
    """Convolution without padding, layer norm over channels, GELU; channels last.

    With the channels last, layer norm needs no transposition, and the taps within one stride are
    one row of memory, so that the convolution is a few plain matrix products.

    Args:
        input_dim: Channels in.
        output_dim: Channels out.
        kernel: Kernel size.
        stride: Stride.
        bias: Whether the convolution has a bias.
    """

    def __init__(
        self, input_dim: int, output_dim: int, kernel: int, stride: int, *, bias: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(input_dim, output_dim, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.channel_norm = nn.LayerNorm(output_dim)
        self.kernel = kernel
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, T_in, C_in) to (B, T_out, C_out)."""
        return F.gelu(self.channel_norm(self._convolve(features)))

    def _convolve(self, features: Tensor) -> Tensor:
        weight, stride, kernel = self.conv.weight, self.stride, self.kernel  # (C_out, C_in, kernel)
        if features.size(2) == 1 or kernel < stride:
            windows = features.unfold(1, kernel, stride).flatten(2)  # (B, T_out, C_in * kernel)
            return F.linear(windows, weight.flatten(1), self.conv.bias)
        num_outputs = compute_conv_length(features.size(1), kernel, stride)
        rows = features[:, : num_outputs * stride].reshape(
            features.size(0), num_outputs, stride * features.size(2)
        )
        first = weight[..., :stride].transpose(1, 2).flatten(1)  # (C_out, stride * C_in)
        outputs = F.linear(rows, first, self.conv.bias)
        for tap in range(stride, kernel):
            shifted = features[:, tap : tap + stride * (num_outputs - 1) + 1 : stride]
            outputs = outputs + F.linear(shifted, weight[..., tap])
        return outputs


class ConvFeatureExtractor(FrontEnd):
    """Seven convolutions from samples to frames.

    With `layer_norm` an utterance alone gives the same frames as in a padded batch because no layer
    looks further than its kernel. The first layer's norm over time (`layer_norm=False`) would break
    that, so it counts valid frames only, unless `masked_statistics=False` asks for what fairseq and
    transformers compute: statistics that include the padding, so that an utterance's frames depend
    on its batch.

    Args:
        dims: Channels of each layer.
        kernels: Kernel sizes.
        strides: Strides.
        layer_norm: Layer norm after every convolution (wav2vec 2.0 large); otherwise a norm over
            time after the first (base).
        bias: Whether convolutions have a bias.
        normalize: Whether waveforms are brought to zero mean and unit variance first.
        masked_statistics: Whether the norm over time leaves padding out.
    """

    def __init__(
        self,
        dims: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        *,
        layer_norm: bool,
        bias: bool,
        normalize: bool,
        masked_statistics: bool = True,
    ) -> None:
        super().__init__()
        self.kernels = tuple(kernels)
        self.strides = tuple(strides)
        self.output_dim = dims[-1]
        self.normalize = normalize
        self.masked_statistics = masked_statistics
        shapes = list(zip([1, *dims[:-1]], dims, kernels, strides, strict=True))
        self.has_layer_norm = layer_norm
        if layer_norm:
            self.layers = nn.ModuleList(ChannelNormConvLayer(*shape, bias=bias) for shape in shapes)
        else:
            self.layers = nn.ModuleList(
                TimeNormConvLayer(*shape, bias=bias, has_norm=index == 0)
                for index, shape in enumerate(shapes)
            )

    @property
    def frame_samples(self) -> int:
        """See `FrontEnd.frame_samples`."""
        return math.prod(self.strides)

    def num_frames(self, num_samples: int) -> int:
        """See `FrontEnd.num_frames`."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            num_samples = compute_conv_length(num_samples, kernel, stride)
        return num_samples

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `FrontEnd.forward`."""
        self.check_samples(waveform.size(1))
        if self.normalize:
            waveform = normalize_waveform(waveform, lengths)
        if self.has_layer_norm:
            features = waveform[..., None]  # (B, S, 1)
            for layer in self.layers:
                features = layer(features)
        else:
            padding = self._find_padding(waveform, lengths)
            features = waveform[:, None]  # (B, 1, S)
            for layer in self.layers:
                features = layer(features, padding)
            features = features.transpose(1, 2)
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            lengths = compute_conv_lengths(lengths, kernel, stride)
        return features, lengths  # (B, T, C)

    def _find_padding(self, waveform: Tensor, lengths: Tensor) -> Tensor | None:
        """(B, T) padding of the first layer's output, if its norm is to leave it out."""
        if not self.masked_statistics or not may_be_padded(lengths, waveform.size(1)):
            return None
        outputs = compute_conv_lengths(lengths, self.kernels[0], self.strides[0])
        num_outputs = compute_conv_length(waveform.size(1), self.kernels[0], self.strides[0])
        return lengths_to_padding_mask(outputs, num_outputs, waveform.device)
